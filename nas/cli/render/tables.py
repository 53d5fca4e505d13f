"""Tables of records for the terminal: fronts, costs of networks, and recall by class after compression."""

from collections.abc import Mapping, Sequence

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from nas.results.compression_effect import compression_ratio, recall_changes, size_ratio
from nas.results.formatting import format_bits
from nas.results.front_table import host_latency
from nas.results.published_baseline import PublishedBaseline
from nas.results.record import Record

WIDE_COLUMNS = frozenset({"[95 %]", "[interval]", "weights", "epochs", "bits", "MMAC", "R kB"})
"""Columns of the front that only a wide terminal shows."""
SIZE_COLUMNS = frozenset({"weights", "not zero", "R", "bytes", "packed", "R bytes", "kB memory", "MB process"})
SPEED_COLUMNS = frozenset({"MMAC", "accuracy", "test", "target ms", "kind", "frames/s"})
"""The two halves of the costs, shown one below the other on a narrow terminal."""
MEMORY_COLUMNS = frozenset({"kB memory", "MB process"})
"""Columns that are left out where no record has such a figure, as in runs of earlier versions."""
MAX_NARROW_NAME = 12
"""Characters of a published model's name that a narrow terminal shows."""
KIND_MARKUP = {"measured": "[green]measured[/]", "predicted": "[yellow]predicted[/]"}


def front_table(
    members: Sequence[Record],
    *,
    search_records: Mapping[str, Record],
    title: str,
    is_wide: bool = True,
    baseline: Record | None = None,
    published: Sequence[PublishedBaseline] = (),
) -> Table:
    """Members of a front as a table.

    Args:
        members: records of the members, one row each.
        search_records: record of the search for each key, whose accuracy is shown beside; empty for no such column.
        title: title of the table.
        is_wide: whether to show `WIDE_COLUMNS`.
        baseline: record of the uncompressed model, for the first row.
        published: published models, for the last rows; each is marked as such.
    """
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim", box=None, pad_edge=False)
    rows = [_front_cells(r, search_records) for r in ([baseline, *members] if baseline else members)]
    # The columns of a member, not of the baseline: only verified members have test figures, the baseline may have too.
    names = [name for name in rows[-1] if is_wide or name not in WIDE_COLUMNS]
    for name in names:
        left = name in {"kind", "bits"} or name.startswith("[")
        table.add_column(name.replace("[", "\\["), justify="left" if left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(row[name] for name in names))
    for model in published:
        cells = _published_cells(model, is_wide=is_wide)
        table.add_row(*(cells.get(name, "-") for name in names), style="italic")
    return table


def costs_table(
    rows: Sequence[tuple[str, Record | None, Record]],
    *,
    show_run_name: bool,
    hidden_columns: frozenset[str] = frozenset(),
) -> Table:
    """Costs of networks: weights, bytes, MACs, accuracy, latency and frames per second.

    Frames per second are those of the classifier alone, 1000 / latency in ms; they leave out the time to find the face.
    "kB memory" is that of weights and activations by the graph, "MB process" the process that timed the file, with its
    runtime. "busy" marks a latency that was measured while other work slowed the machine.

    Args:
        rows: name of the run, record of its uncompressed model for ratios (None without one), and the record.
        show_run_name: whether to show the names of the runs.
        hidden_columns: columns to leave out.
    """
    title = "size and speed; frames/s of the classifier alone"
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim", box=None, pad_edge=False)
    all_cells = [({"run": name} if show_run_name else {}) | _cost_cells(r, baseline) for name, baseline, r in rows]
    unknown = {head for head in MEMORY_COLUMNS if all(cells[head] == "-" for cells in all_cells)}
    shown = [
        {head: cell for head, cell in cells.items() if head not in hidden_columns | unknown} for cells in all_cells
    ]
    for head in shown[0]:
        table.add_column(head, justify="left" if head in {"run", "kind"} else "right", no_wrap=True)
    for cells in shown:
        table.add_row(*cells.values())
    return table


def recall_table(baseline: Record, members: Sequence[Record]) -> Table:
    """Recall of the uncompressed model by class in percent, and the change of each member in percentage points."""
    first = recall_changes(baseline, members[0])
    rows = [
        [_record_label(r), *(f"{change.percentage_points:+.1f}" for change in recall_changes(baseline, r))]
        for r in members
    ]
    return plain_table([["trial", *(c.name for c in first)], ["base", *(f"{c.before:.0%}" for c in first)], *rows])


def plain_table(rows: Sequence[Sequence[str]]) -> Table:
    """A table of plain text whose first row is the header."""
    table = Table(header_style="dim", box=None, pad_edge=False)
    for i, head in enumerate(rows[0]):
        table.add_column(head, justify="right" if i else "left")
    for row in rows[1:]:
        table.add_row(*map(Text, row))
    return table


def _front_cells(r: Record, search_records: Mapping[str, Record]) -> dict[str, str]:
    """One row of the table of a front: cell by column title."""
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


def _published_cells(model: PublishedBaseline, *, is_wide: bool) -> dict[str, str]:
    """The row of a published model, without the columns that only candidates have."""
    score, latency, host = model.score, model.latency, model.measured
    name = model.name if is_wide or len(model.name) <= MAX_NARROW_NAME else f"{model.name[: MAX_NARROW_NAME - 1]}\u2026"
    return {
        "trial": f"published {escape(name)}",
        "accuracy": f"[bold]{score.accuracy:.1%}[/]",
        "[95 %]": f"{100 * score.low:.1f} to {100 * score.high:.1f}",
        "target ms": f"[bold]{latency.latency_ms:.3g}[/]",
        "[interval]": f"{latency.low_ms:.3g} to {latency.high_ms:.3g}",
        "kind": KIND_MARKUP[latency.kind],
        "host ms": f"{host.robust_ms:.3g}" if host else "-",
        "kB": f"{model.size_bytes / 1e3:.1f}",
        "weights": f"{model.params:,}" if model.params is not None else "-",
        "MMAC": f"{model.macs / 1e6:.2f}" if model.macs is not None else "-",
    }


def _cost_cells(r: Record, baseline: Record | None) -> dict[str, str]:
    """One row of the table of costs: cell by column title."""
    weights, size = (compression_ratio(baseline, r), size_ratio(baseline, r)) if baseline else (None, None)
    host = host_latency(r)
    return {
        "trial": _record_label(r),
        "weights": f"{r.params:,}" if r.params else "-",
        "not zero": f"{r.nonzero_params:,}" if r.nonzero_params else "-",
        "R": f"{weights:.2f}" if weights else "-",
        "bytes": f"{r.size_bytes:,}" if r.size_bytes else "-",
        "packed": f"{r.packed_bytes:,}" if r.packed_bytes else "-",
        "R bytes": f"{size:.2f}" if size else "-",
        "kB memory": f"{r.memory_bytes / 1e3:,.1f}" if r.memory_bytes else "-",
        "MB process": f"{host.resident_bytes / 1e6:.0f}" if host and host.resident_bytes else "-",
        "MMAC": f"{r.macs / 1e6:.2f}" if r.macs else "-",
        "accuracy": f"{r.score.accuracy:.1%}" if r.score else "-",
        "test": f"{r.test.accuracy:.1%}" if r.test else "-",
        "target ms": f"{r.latency.latency_ms:.3g}" if r.latency else "-",
        "kind": KIND_MARKUP[r.latency.kind] + " busy" * r.latency.is_disturbed if r.latency else "-",
        "frames/s": f"{1000 / r.latency.latency_ms:,.0f}" if r.latency else "-",
    }


def _record_label(r: Record) -> str:
    return "base" if r.phase == "base" else str(r.trial)
