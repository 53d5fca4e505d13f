"""Markdown of generated pages: tables, and text that Markdown must not read as its own."""

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are Markdown on one line, in which a bar is escaped.

    Raises:
        ValueError: a row has another number of cells than the head.

    Examples:
        >>> print(table(["a", "b"], [["1", "x|y"]]))
        | a | b |
        |---|---|
        | 1 | x\\|y |
    """
    lines = [_line(head), "|" + "---|" * len(head)]
    for row in rows:
        if len(row) != len(head):
            raise ValueError(f"a row must have {len(head)} cells, but has {len(row)}: {' | '.join(row)}")
        lines.append(_line(row))
    return "\n".join(lines)


def code(text: str) -> str:
    """Text as inline code; empty text stays empty.

    Examples:
        >>> code("--target"), code("")
        ('`--target`', '')
    """
    return f"`{text}`" if text else ""


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
