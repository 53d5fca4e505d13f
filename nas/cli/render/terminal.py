"""Output of the commands: fronts, selections, costs, targets and findings.

The progress of a search is in `nas.cli.render.progress`, latencies are in `nas.cli.render.measurements`.
"""

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from hw_profiles._base import HardwareProfile
from nas.cli.render.tables import SIZE_COLUMNS, SPEED_COLUMNS, costs_table, front_table, recall_table
from nas.latency.predicted.learned_roofline import LearnedRoofline
from nas.results.compression_effect import MAX_RECALL_LOSS, find_baseline, large_recall_losses
from nas.results.data_facts import read_data_facts
from nas.results.fold_statistics import describe_folds
from nas.results.formatting import format_int8_speedup, format_settings, format_widths
from nas.results.front import (
    count_without_int8_speedup,
    dropped_members,
    latest_by_key,
    pareto_front,
    search_front,
    verified_front,
)
from nas.results.front_comparison import describe_comparison
from nas.results.published_baseline import PublishedBaseline, read_baselines
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.results.search_end import describe_search_end
from nas.results.seed_variance import describe_seed_variance
from nas.results.selection import Selection
from nas.results.warm_start_log import warm_start_lines
from nas.runtimes.base import Finding

WIDE_MIN_COLUMNS = 156
"""Width in characters from which tables show all columns."""


def make_console() -> Console:
    """The console of standard output; 200 characters wide where it is not a terminal, so that every table fits."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=200)


def show_front(console: Console, folder: RunFolder) -> None:
    """Show the front of a run, the accuracy in the search beside the verified one, and dropped members."""
    records, objectives = folder.records(), folder.config.search.objectives
    members, baseline = pareto_front(records, objectives), find_baseline(records)
    published = read_baselines(folder)
    costs = [("", baseline, r) for r in (baseline, *members)] if baseline else []
    if not members:
        if costs:
            _show_costs(console, costs, show_run_name=False)
        if published:
            _show_published(console, [baseline] if baseline else [], published)
        if baseline and len(records) == 1:  # nothing was searched
            return
        failed = [r for r in records if r.status != "complete"]
        reason = f"; the last one: {failed[-1].reason}" if failed else ""
        console.print(f"No candidate is complete and within the limits yet ({len(records)} evaluated{reason}).")
        for line in describe_search_end(folder, records):
            console.print(f"  {line}", soft_wrap=True, markup=False)
        return
    verified = bool(verified_front(records, objectives))
    before = {r.key: r for r in latest_by_key(records, "search")} if verified else {}
    title = f"{'verified' if verified else 'search'} front"
    console.print(
        front_table(
            members, search_records=before, baseline=baseline, title=title, is_wide=console.width >= WIDE_MIN_COLUMNS,
            published=published,
        )
    )  # fmt: skip
    _show_comparisons(console, members, published)
    if baseline:
        _show_costs(console, costs, show_run_name=False)
        show_recall(console, baseline, members)
    for r in members:
        channels = f"channels by stage {format_widths(r.candidate)}" if r.candidate.is_pruned else ""
        details = [
            text
            for text in (channels, format_int8_speedup(r), format_settings(r.candidate), *r.notes, *_host_load_notes(r))
            if text
        ]
        if details:
            console.print(f"  trial {r.trial}: {'; '.join(details)}", soft_wrap=True, highlight=False)
    if n_without := count_without_int8_speedup(latest_by_key(records, "search")):
        console.print(f"  not trained, as INT8 is not faster: {n_without}; their FP32 baselines were proposed instead")
    for dropped in dropped_members(records, objectives):
        console.print(f"  dropped: trial {dropped.search.trial} ({dropped.reason})", soft_wrap=True)
    n_unverified = len(
        {r.key for r in search_front(records, objectives)} - {r.key for r in latest_by_key(records, "verified")}
    )
    if verified and n_unverified:
        console.print(f"  {n_unverified} further members of the search front were not trained in full")
    n_folds = int(read_data_facts(folder).get("n_folds", 1))
    for line in (
        *warm_start_lines(folder.path),
        *(describe_folds(records, n_folds) if n_folds > 1 else describe_seed_variance(records)),
        *describe_search_end(folder, records),
        *(f"data: {note}" for note in read_data_facts(folder).get("notes", ())),
    ):
        console.print(f"  {line}", soft_wrap=True, markup=False)
    console.print(
        f"  accuracy on {members[0].accuracy_split or 'val'}, {_format_image_count(members[0])} images; "
        f"{_describe_test(members)}"
    )


def _show_published(console: Console, members: Sequence[Record], published: Sequence[PublishedBaseline]) -> None:
    """Show published models beside a run's only model, or alone before any candidate is complete."""
    if members:
        is_wide = console.width >= WIDE_MIN_COLUMNS
        table = front_table(
            members, search_records={}, title="beside published models", is_wide=is_wide, published=published
        )
        console.print(table)
    _show_comparisons(console, members, published)


def _show_comparisons(console: Console, members: Sequence[Record], published: Sequence[PublishedBaseline]) -> None:
    """Show whether a member is more accurate and faster than each published model, and how that one was read."""
    for model in published:
        console.print(f"  {describe_comparison(model, members)}", soft_wrap=True, markup=False)
        for note in model.notes:
            console.print(f"    {note}", soft_wrap=True, markup=False, style="dim")


def show_recall(console: Console, baseline: Record, members: Sequence[Record]) -> None:
    """Show the change of recall by class in percentage points, and a warning for each class that loses too much."""
    console.print("  recall by class, and its change in percentage points against the uncompressed model")
    console.print(recall_table(baseline, members))
    warned = [(r, lost) for r in members if (lost := large_recall_losses(baseline, r))]
    for r, lost in warned:
        warning = f"  [yellow]warning[/]: trial {r.trial} loses more than {100 * MAX_RECALL_LOSS:.0f} points: "
        console.print(warning + "; ".join(map(str, lost)), soft_wrap=True)
    if not warned:
        console.print(f"  no class loses more than {100 * MAX_RECALL_LOSS:.0f} points")


def show_costs(console: Console, folders: Sequence[RunFolder]) -> None:
    """Show the costs of the networks of runs: of each the uncompressed model, if there is one, and the front."""
    rows: list[tuple[str, Record | None, Record]] = []
    for folder in folders:
        records = folder.records()
        baseline = find_baseline(records)
        shown = [*([baseline] if baseline else []), *pareto_front(records, folder.config.search.objectives)]
        rows += [(folder.path.name, baseline, r) for r in shown]
    if rows:
        _show_costs(console, rows, show_run_name=len(folders) > 1)
    else:
        console.print("No candidate is complete and within the limits yet.")


def _show_costs(console: Console, rows: Sequence[tuple[str, Record | None, Record]], *, show_run_name: bool) -> None:
    """Show the table of costs, in two halves where it does not fit."""
    whole = costs_table(rows, show_run_name=show_run_name)
    if console.measure(whole, options=console.options.update(width=1000)).maximum <= console.width:
        console.print(whole)
        return
    for without in (SPEED_COLUMNS, SIZE_COLUMNS):
        console.print(costs_table(rows, show_run_name=show_run_name, hidden_columns=without))


def show_selection(console: Console, selection: Selection) -> None:
    """Show a selection, its reason, and the trade-off against its neighbours."""
    wide = console.width >= WIDE_MIN_COLUMNS
    console.print(
        front_table([selection.record], search_records={}, title=f"trial {selection.record.trial}", is_wide=wide)
    )
    console.print(f"  reason: {selection.reason}", soft_wrap=True)
    for line in selection.describe_trade_offs():
        console.print(f"  {line}", soft_wrap=True)


def targets_table(profiles: Mapping[str, HardwareProfile], calibrations: Mapping[str, LearnedRoofline]) -> Table:
    """All targets: device, runtime, precisions, and whether the latency is measured or predicted."""
    table = Table(header_style="dim", box=None, pad_edge=False)
    for head in ("target", "device", "runtime", "bits", "channels", "latency"):
        table.add_column(head)
    for name, p in profiles.items():
        latency = f"predicted, +-{p.latency.relative_error:.0%}" if p.latency else "none published"
        model = calibrations.get(name)
        learned = f"calibrated, +-{model.half_width:.0%}" if model else ""
        if p.local or "ssh" in p.facts:
            latency = "measured here" if p.local else f"measured at {p.facts['ssh']}"
            latency += " with onnxruntime-gpu" if p.runtime.startswith("onnxruntime_") else ""
            latency += f"; {learned}" if learned else ""
        elif learned:
            latency = f"predicted, {learned}"
        alias = f" (= {p.name})" if name != p.name else ""
        bits = " ".join(str(b) for b in p.precisions)
        table.add_row(f"[bold]{name}[/]{alias}", p.title, p.runtime, bits, f"x{p.channel_multiple}", escape(latency))
    return table


def device_checks_table(findings: Iterable[Finding]) -> Table:
    """Findings of the checks of a device."""
    table = Table(header_style="dim", box=None, pad_edge=False)
    for head in ("", "check", "result"):
        table.add_column(head, overflow="fold")
    for f in findings:
        table.add_row("[green]ok[/]" if f.is_ok else "[red]no[/]", f.name, Text(f.value))
    return table


def log(line: str) -> None:
    """Print a line about a step in progress to standard error, which keeps standard output clean."""
    Console(stderr=True, highlight=False).print(line, style="dim", soft_wrap=True, markup=False)


def environment_table(findings: Iterable[Finding]) -> Table:
    """Findings of `nas doctor`."""
    table = Table(header_style="dim", box=None, pad_edge=False)
    for head in ("", "check", "result", "advice"):
        table.add_column(head, overflow="fold")
    for f in findings:
        table.add_row("[green]ok[/]" if f.is_ok else "[red]no[/]", f.name, Text(f.value), Text(f.advice))
    return table


def _describe_test(members: Sequence[Record]) -> str:
    """The result on the test split, or why there is none."""
    if first := members[0].test:
        return f"tested once on {first.n:,} images, interval +-{50 * (first.high - first.low):.1f} points"
    if members[0].phase == "search":
        return "no test accuracy before the final training"
    return "no test accuracy: the data set has no test split here"


def _host_load_notes(record: Record) -> list[str]:
    """Notes of the record's latency about a busy machine."""
    return [note for note in record.latency.notes if note.startswith("busy")] if record.latency else []


def _format_image_count(record: Record) -> str:
    return f"{record.score.n:,}" if record.score else "no"
