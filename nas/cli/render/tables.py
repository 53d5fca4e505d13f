"""Tables of records for the terminal: fronts, what nets cost, and what compression did to each class."""

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from nas.results.compression_effect import compression_ratio, recall_changes, size_ratio
from nas.results.formatting import format_bits
from nas.results.front_table import host_latency
from nas.results.record import Record

WIDE_COLUMNS = frozenset({"[95 %]", "[interval]", "weights", "epochs", "bits", "MMAC", "R kB"})
SIZE_COLUMNS = frozenset({"weights", "not zero", "R", "bytes", "packed", "R bytes"})
SPEED_COLUMNS = frozenset({"MMAC", "accuracy", "test", "target ms", "kind", "frames/s"})
"""The two halves of the table of costs."""
KIND_MARKUP = {"measured": "[green]measured[/]", "predicted": "[yellow]predicted[/]"}


def front_table(
    members: Sequence[Record],
    *,
    search_records: Mapping[str, Record],
    title: str,
    is_wide: bool = True,
    baseline: Record | None = None,
) -> Table:
    """Members of a front as a table.

    Args:
        members: one row each.
        search_records: the search's record of each key, for comparison; empty where there is nothing to compare.
        title: of the table.
        wide: whether there is room for intervals, weights and bits too.
        base: the uncompressed net, for a first row.
    """
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim", box=None, pad_edge=False)
    columns = [_front_cells(r, search_records) for r in ([baseline, *members] if baseline else members)]
    names = [name for name in columns[-1] if is_wide or name not in WIDE_COLUMNS]  # a search front has no test figures
    for name in names:
        left = name in {"kind", "bits"} or name.startswith("[")
        table.add_column(name.replace("[", "\\["), justify="left" if left else "right", no_wrap=True)
    for row in columns:
        table.add_row(*(row[name] for name in names))
    return table


def costs_table(
    rows: Sequence[tuple[str, Record | None, Record]],
    *,
    show_run_name: bool,
    hidden_columns: frozenset[str] = frozenset(),
) -> Table:
    """What nets cost and give: weights, bytes, MACs, accuracy, latency and frames per second.

    Frames per second are those of the classifier alone, 1000 / latency in ms: finding the face takes its own time.

    Args:
        rows: name of the run, its uncompressed net for ratios if there is one, and the record.
        show_run_name: whether to show the names.
        hidden_columns: columns to leave out.
    """
    title = "size and speed; frames/s of the classifier alone"
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim", box=None, pad_edge=False)
    columns = [({"run": name} if show_run_name else {}) | _cost_cells(r, base) for name, base, r in rows]
    columns = [{head: cell for head, cell in row.items() if head not in hidden_columns} for row in columns]
    for head in columns[0]:
        table.add_column(head, justify="left" if head in {"run", "kind"} else "right", no_wrap=True)
    for row in columns:
        table.add_row(*row.values())
    return table


def recall_table(baseline: Record, members: Sequence[Record]) -> Table:
    """Recall of the uncompressed net by class in percent, and the points that each member gained or lost."""
    first = recall_changes(baseline, members[0])
    rows = [
        [_record_label(r), *(f"{change.percentage_points:+.1f}" for change in recall_changes(baseline, r))]
        for r in members
    ]
    return plain_table([["trial", *(c.name for c in first)], ["base", *(f"{c.before:.0%}" for c in first)], *rows])


def plain_table(rows: Sequence[Sequence[str]]) -> Table:
    """Rows of words, the first of them the header."""
    table = Table(header_style="dim", box=None, pad_edge=False)
    for i, head in enumerate(rows[0]):
        table.add_column(head, justify="right" if i else "left")
    for row in rows[1:]:
        table.add_row(*map(Text, row))
    return table


def _front_cells(r: Record, search_records: Mapping[str, Record]) -> dict[str, str]:
    """One row of the front's table: title to cell."""
    score, latency, host = r.score, r.latency, host_latency(r)
    searched = search_records.get(r.key) if r.phase != "base" else None
    compared = (
        {"in search": f"{searched.score.accuracy:.1%}" if searched and searched.score else "-"}
        if search_records
        else {}
    )
    return {
        "trial": _record_label(r),
        "accuracy": f"[bold]{score.accuracy:.1%}[/]" if score else "-",
        "[95 %]": f"{100 * score.low:.1f} to {100 * score.high:.1f}" if score else "-",
        **compared,
        **({"test": f"{r.test.accuracy:.1%}"} if r.test else {}),
        "target ms": f"[bold]{latency.latency_ms:.3g}[/]" if latency else "-",
        "[interval]": f"{latency.low_ms:.3g} to {latency.high_ms:.3g}" if latency else "-",
        "kind": KIND_MARKUP[latency.kind] if latency else "-",
        "host ms": f"{host.robust_ms:.3g}" if host else "-",
        "kB": f"{r.size_bytes / 1e3:.1f}" if r.size_bytes else "-",
        "weights": f"{r.params:,}" if r.params else "-",
        "MMAC": f"{r.macs / 1e6:.2f}" if r.macs else "-",
        "sparsity": f"{r.candidate.sparsity:.0%}",
        "bits": format_bits(r.candidate.bits),
        "epochs": f"{r.epochs:.1f}",
    }


def _cost_cells(r: Record, baseline: Record | None) -> dict[str, str]:
    """One row of the table of costs: title to cell."""
    weights, size = (compression_ratio(baseline, r), size_ratio(baseline, r)) if baseline else (None, None)
    return {
        "trial": _record_label(r),
        "weights": f"{r.params:,}" if r.params else "-",
        "not zero": f"{r.nonzero_params:,}" if r.nonzero_params else "-",
        "R": f"{weights:.2f}" if weights else "-",
        "bytes": f"{r.size_bytes:,}" if r.size_bytes else "-",
        "packed": f"{r.packed_bytes:,}" if r.packed_bytes else "-",
        "R bytes": f"{size:.2f}" if size else "-",
        "MMAC": f"{r.macs / 1e6:.2f}" if r.macs else "-",
        "accuracy": f"{r.score.accuracy:.1%}" if r.score else "-",
        "test": f"{r.test.accuracy:.1%}" if r.test else "-",
        "target ms": f"{r.latency.latency_ms:.3g}" if r.latency else "-",
        "kind": KIND_MARKUP[r.latency.kind] if r.latency else "-",
        "frames/s": f"{1000 / r.latency.latency_ms:,.0f}" if r.latency else "-",
    }


def _record_label(r: Record) -> str:
    return "base" if r.phase == "base" else str(r.trial)
