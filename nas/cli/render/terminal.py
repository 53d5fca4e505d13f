"""What the command line shows: fronts, picks, targets and findings as tables. A search that goes on: `nas.cli.render.progress`."""

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from hw_profiles._base import HardwareProfile
from nas.cli.render.tables import SIZES, SPEEDS, costs_table, front_table, plain_table, recall_table
from nas.errors import MeasureError
from nas.latency.estimate import Measurement
from nas.latency.predicted.learned_roofline import LearnedRoofline
from nas.reporting.model_card import statement
from nas.results.compression_effect import LOSS, losses, uncompressed
from nas.results.formatting import gain_words, settings_words, widths_words
from nas.results.front import fallen, front, given_up, latest, search_front, verified_front
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.results.seed_variance import seed_lines
from nas.results.selection import Pick
from nas.results.stopping import ending_lines
from nas.results.warm_start_log import begun_with
from nas.runtimes.base import Finding as DeviceFinding
from nas.targets.environment import Finding

WIDE_FROM = 156
"""Columns of a terminal from which tables show everything; what is not a terminal has room enough."""


def console() -> Console:
    """Where everything is shown: standard output, wide enough for every table where it is no terminal."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=200)


def show_front(console: Console, folder: RunFolder) -> None:
    """The front of a run, the search front beside the verified one, and who fell off."""
    records, objectives = folder.records(), folder.config.objectives
    members, base = front(records, objectives), uncompressed(records)
    costs = [("", base, r) for r in (base, *members)] if base else []
    if not members:
        if costs:
            _show_costs(console, costs, named=False)
        failed = [r for r in records if r.status != "complete"]
        why = f"; the last one: {failed[-1].reason}" if failed else ""
        console.print(f"No candidate is complete and within the limits yet ({len(records)} tried{why}).")
        for line in ending_lines(folder, records):
            console.print(f"  {line}", soft_wrap=True, markup=False)
        return
    verified = bool(verified_front(records, objectives))
    before = {r.key: r for r in latest(records, "search")} if verified else {}
    title = f"{'verified' if verified else 'search'} front"
    console.print(front_table(members, before=before, base=base, title=title, wide=console.width >= WIDE_FROM))
    if base:
        _show_costs(console, costs, named=False)
        show_recall(console, base, members)
    for r in members:
        channels = f"channels by stage {widths_words(r.candidate)}" if r.candidate.is_pruned else ""
        told = [text for text in (channels, gain_words(r), settings_words(r.candidate), *r.notes, *_busy(r)) if text]
        if told:
            console.print(f"  trial {r.trial}: {'; '.join(told)}", soft_wrap=True, highlight=False)
    if lost := given_up(latest(records, "search")):
        console.print(f"  not trained, as 8 bits gained nothing: {lost}; float twins were asked instead")
    for fell in fallen(records, objectives):
        console.print(f"  fell off: trial {fell.search.trial} ({fell.reason})", soft_wrap=True)
    waiting = len({r.key for r in search_front(records, objectives)} - {r.key for r in latest(records, "verified")})
    if verified and waiting:
        console.print(f"  {waiting} further members of the search front were not trained in full")
    for line in (*begun_with(folder.path), *seed_lines(records), *ending_lines(folder, records)):
        console.print(f"  {line}", soft_wrap=True, markup=False)
    console.print(
        f"  accuracy on {members[0].accuracy_split or 'val'}, of {_faces(members[0])} faces; {_tested(members)}"
    )


def show_recall(console: Console, base: Record, members: Sequence[Record]) -> None:
    """What compression did to each class, in points of recall, and a warning for each that lost too much."""
    console.print("  recall by class, and points gained or lost against the uncompressed net")
    console.print(recall_table(base, members))
    warned = [(r, lost) for r in members if (lost := losses(base, r))]
    for r, lost in warned:
        told = f"  [yellow]warning[/]: trial {r.trial} loses more than {100 * LOSS:.0f} points: "
        console.print(told + "; ".join(map(str, lost)), soft_wrap=True)
    if not warned:
        console.print(f"  no class loses more than {100 * LOSS:.0f} points")


def show_costs(console: Console, folders: Sequence[RunFolder]) -> None:
    """What the nets of one or several runs cost: of each the uncompressed net, if there is one, and the front."""
    rows: list[tuple[str, Record | None, Record]] = []
    for folder in folders:
        records = folder.records()
        base = uncompressed(records)
        shown = [*([base] if base else []), *front(records, folder.config.objectives)]
        rows += [(folder.path.name, base, r) for r in shown]
    if rows:
        _show_costs(console, rows, named=len(folders) > 1)
    else:
        console.print("No candidate is complete and within the limits yet.")


def _show_costs(console: Console, rows: Sequence[tuple[str, Record | None, Record]], *, named: bool) -> None:
    """The table of costs, in two halves where it does not fit."""
    whole = costs_table(rows, named=named)
    if console.measure(whole, options=console.options.update(width=1000)).maximum <= console.width:
        console.print(whole)
        return
    for without in (SPEEDS, SIZES):
        console.print(costs_table(rows, named=named, without=without))


def show_pick(console: Console, picked: Pick) -> None:
    """A pick, why it was chosen, and what its neighbours would give."""
    wide = console.width >= WIDE_FROM
    console.print(front_table([picked.record], before={}, title=f"trial {picked.record.trial}", wide=wide))
    console.print(f"  why: {picked.why}", soft_wrap=True)
    for line in picked.trade():
        console.print(f"  {line}", soft_wrap=True)


def targets_table(profiles: Mapping[str, HardwareProfile], calibrations: Mapping[str, LearnedRoofline]) -> Table:
    """All targets: what they are, what they run, and whether their latency is measured or predicted, and by what."""
    table = Table(header_style="dim", box=None, pad_edge=False)
    for head in ("target", "device", "runtime", "bits", "channels", "latency"):
        table.add_column(head)
    for name, p in profiles.items():
        latency = f"predicted, +-{p.latency.relative_error:.0%}" if p.latency else "none published"
        model = calibrations.get(name)
        learned = f"calibrated, +-{model.half_width:.0%}" if model else ""
        if p.local or "ssh" in p.facts:
            latency = "measured here" if p.local else f"measured at {p.facts['ssh']}"
            latency += f"; {learned}" if learned else ""
        elif learned:
            latency = f"predicted, {learned}"
        alias = f" (= {p.name})" if name != p.name else ""
        bits = " ".join(str(b) for b in p.precisions)
        table.add_row(f"[bold]{name}[/]{alias}", p.title, p.runtime, bits, f"x{p.channel_multiple}", escape(latency))
    return table


def show_measurements(console: Console, found: Mapping[str, list[Measurement] | MeasureError]) -> bool:
    """The full statement of each file, its layers where they were timed, and how the files compare.

    Returns:
        Whether every file has a figure.
    """
    first: tuple[str, Measurement] | None = None
    for name, measured in found.items():
        if len(found) > 1:
            console.print(f"[bold]{escape(name)}[/]", soft_wrap=True)
        if isinstance(measured, MeasureError):
            console.print(f"no figure: {measured}", soft_wrap=True, markup=False)
            for line in measured.log:
                console.print(f"  {line}", soft_wrap=True, markup=False, style="dim")
            continue
        for m in measured:
            console.print(statement(m.to_dict()), soft_wrap=True, markup=False)
        if measured[0].layers:
            console.print(layers_table(measured[0]))
        if first is None:
            first = (name, measured[0])
        else:
            share = measured[0].latency_ms / first[1].latency_ms
            console.print(f"takes {share:.3f} of the time of {first[0]}", soft_wrap=True, markup=False)
    return not any(isinstance(measured, MeasureError) for measured in found.values())


def layers_table(measured: Measurement) -> Table:
    """Layers in order of execution, with their share of the sum of all layers."""
    total = sum(ms for _, ms in measured.layers) or 1.0
    rows = [(name, f"{1e3 * ms:.1f}", f"{ms / total:.1%}") for name, ms in measured.layers]
    summed = f"{len(rows)} layers, timed one by one: {total:.3f} ms"
    return plain_table([("layer", "us", "share"), *rows, (summed, f"{1e3 * total:.1f}", "")])


def checks_table(findings: Iterable[DeviceFinding]) -> Table:
    """What was found of a device."""
    table = Table(header_style="dim", box=None, pad_edge=False)
    for head in ("", "what", "found"):
        table.add_column(head, overflow="fold")
    for f in findings:
        table.add_row("[green]ok[/]" if f.ok else "[red]no[/]", f.name, Text(f.value))
    return table


def say(line: str) -> None:
    """Something that is being done, on standard error, so that the output stays clean."""
    Console(stderr=True, highlight=False).print(line, style="dim", soft_wrap=True, markup=False)


def findings_table(findings: Iterable[Finding]) -> Table:
    """What the doctor found."""
    table = Table(header_style="dim", box=None, pad_edge=False)
    for head in ("", "what", "found", "advice"):
        table.add_column(head, overflow="fold")
    for f in findings:
        table.add_row("[green]ok[/]" if f.ok else "[red]no[/]", f.name, Text(f.value), Text(f.advice))
    return table


def _tested(members: Sequence[Record]) -> str:
    """What the test split says, or why it says nothing."""
    if first := members[0].test:
        return f"test taken once, of {first.n:,} faces, interval +-{50 * (first.high - first.low):.1f} points"
    if members[0].phase == "search":
        return "no test figure before full training"
    return "no test figure: the data has no test split here"


def _busy(record: Record) -> list[str]:
    """What the record's latency says of a machine that was busy."""
    return [note for note in record.latency.notes if note.startswith("busy")] if record.latency else []


def _faces(record: Record) -> str:
    return f"{record.score.n:,}" if record.score else "no"
