"""Code blocks of the pages, with the marks that say how a test runs them.

A mark is a comment on a line of its own above the block:

    <!-- as is -->                      run as it stands
    <!-- file -->                       write it to the file that its title names
    <!-- short: --trials 3 -->          append these options to each `nas` command of it
    <!-- replace: A with B -->          first replace A by B
    <!-- not run: needs a board -->     not run, and why
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
FENCE = re.compile(
    r"(?P<marks>(?:^ *<!-- [^\n]+ -->\n)*)^(?P<indent> *)```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n"
    r"(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
MARK = re.compile(r"<!-- (?P<word>as is|file|short|replace|not run)(?:: (?P<value>.+?))? -->")
SHELL = ("sh", "bash", "shell", "console")


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block.

    Attributes:
        page: path of the page below the repository.
        line: line of its first line of code.
        language: word after the fence.
        title: name of the file that it shows; empty without one.
        text: what stands in it.
        marks: word and value of each mark, in order.
    """

    page: str
    line: int
    language: str
    title: str
    text: str
    marks: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def reason_not_run(self) -> str:
        """Why it is not run; empty where it is."""
        return dict(self.marks).get("not run", "")

    def short_form(self) -> str:
        """The text after its replacements, with the options of the short form at the end of each `nas` command.

        Raises:
            ValueError: a replacement's first text does not occur.
        """
        text = self.text
        for word, value in self.marks:
            if word == "replace":
                old, _, new = value.partition(" with ")
                if old not in text:
                    raise ValueError(f"{self}: {old!r} must occur in the block")
                text = text.replace(old, new)
        options = " ".join(value for word, value in self.marks if word == "short")
        lines = [f"{line} {options}" if line.startswith("nas ") else line for line in logical_lines(text)]
        return "\n".join(lines)


def blocks(path: Path) -> Iterator[Block]:
    """The blocks of a page, in order.

    Raises:
        ValueError: a comment above a block is no mark.
    """
    page = path.read_text(encoding="utf-8")
    for found in FENCE.finditer(page):
        marks = []
        for comment in found["marks"].splitlines():
            if (mark := MARK.fullmatch(comment.strip())) is None:
                raise ValueError(f"{path}: {comment} must be a mark of tests/docs/blocks.py")
            marks.append((mark["word"], mark["value"] or ""))
        indent = len(found["indent"])
        yield Block(
            page=str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name,
            line=page.count("\n", 0, found.start("text")) + 1,
            language=found["language"],
            title=found["title"] or "",
            text="".join(line[indent:] for line in found["text"].splitlines(keepends=True)),
            marks=tuple(marks),
        )


def logical_lines(text: str) -> list[str]:
    """Lines of a shell block: continued ones joined, without comments at the end and without empty ones."""
    joined = re.sub(r"\\\n\s*", "", text)
    return [line for line in (re.sub(r"(^|\s)#\s.*$", "", raw).strip() for raw in joined.splitlines()) if line]
