"""The report's main part: the plot of the front, and its table beside what the search had said."""

from collections.abc import Sequence

from nas.latency.estimate import Measurement
from nas.reporting import page as paper
from nas.reporting import plots
from nas.reporting.page import text
from nas.reporting.run_view import View, label, ms, percent
from nas.results.compression_effect import compression_ratio, size_ratio
from nas.results.formatting import bits_words, gain_words, settings_words, widths_words
from nas.results.front import feasible, latest
from nas.results.front_table import host_measurement
from nas.results.record import Record

NOTHING = "&mdash;"
NO_TEST = "The data has no test split here, so there is no test figure."
AXES = (
    "latency on the target, ms",
    "latency on the machine of the search, ms (5th percentile)",
    "size of the file, kB",
)


def front_section(views: Sequence[View]) -> str:
    """The plot of all fronts: where each candidate is, what was searched, and where full training took it."""
    layers = [layer for i, v in enumerate(views) for layer in _layers(v, i, named=len(views) > 1)]
    c = views[0].config
    limits = (c.max_latency, 100 * c.min_accuracy if c.min_accuracy else None) if len(views) == 1 else (None, None)
    if not any(v.front for v in views):
        return paper.section("The front", "No candidate is complete yet.")
    errors = [share for v in views for r in v.front if (share := _relative_error(r.latency))]
    note = (
        "Up and to the left is better. Filled circles are measured, open diamonds predicted; a solid line joins the "
        "front that was trained in full and measured again, a dotted one the front as the search left it, and thin "
        "dotted lines show where full training took each member. Ticks at the bottom are candidates that broke a "
        "limit before any training. Dashed lines are the limits asked for."
    )
    if errors:
        note += f" A predicted latency may be off by about {max(errors):.0%}; switch the intervals on to see it."
    return paper.section("The front", note, plots.front(layers, AXES, limits=limits))


def _test(r: Record) -> str:
    """The test split's figure under that of the selection split."""
    return f"<small>test {r.test.accuracy:.1%} ({r.test.low:.1%} to {r.test.high:.1%})</small>" if r.test else ""


def _relative_error(m: Measurement | None) -> float | None:
    """Half-width of a predicted latency's interval, as a share of it."""
    return m.high_ms / m.latency_ms - 1 if m and m.kind == "predicted" and m.latency_ms else None


def _layers(view: View, index: int, *, named: bool) -> list[plots.Layer]:
    main = plots.COLOURS[index % len(plots.COLOURS)]
    second = main if named else "#4357ad"
    suffix = f", {view.name}" if named else ""
    on_front = {r.key for r in view.search_front}
    verified = {r.key: r for r in latest(view.records, "verified") if r.status == "complete"}
    moved = [p for r in view.search_front if r.key in verified for p in (r, verified[r.key])]
    fell = {f.verified.key for f in view.fallen}
    groups = (
        ("broke a limit, never trained", "untrained", plots.PALE, [
            r for r in view.searched if r.status == "infeasible" and not r.score and r.latency
        ]),
        ("broke a limit", "infeasible", plots.PALE, [r for r in view.searched if r.score and not feasible(r)]),
        ("dominated", "dominated", plots.GREY, [r for r in view.searched if feasible(r) and r.key not in on_front]),
        ("moved", "moved", plots.GREY, moved),
        ("search front", "search", second, view.search_front),
        ("fell off", "dominated", "#b4441a", [r for k, r in verified.items() if k in fell]),
        ("verified front", "verified", main, view.verified_front),
        ("uncompressed net", "base", plots.INK, [view.base] if view.base else []),
    )  # fmt: skip
    return [
        plots.Layer(name=name + suffix, role=role, colour=colour, points=tuple(_point(r) for r in members))
        for name, role, colour, members in groups
        if members
    ]


def _point(r: Record) -> plots.Point:
    host = host_measurement(r)
    size = r.size_bytes / 1e3 if r.size_bytes else None
    at_host = (host.p5_ms or host.latency_ms) if host else None
    return plots.Point(
        x=(
            (r.latency.latency_ms, r.latency.low_ms, r.latency.high_ms) if r.latency else None,
            (at_host, at_host, at_host) if at_host else None,
            (size, size, size) if size else None,
        ),
        y=100 * r.score.accuracy if r.score else None,
        y_low=100 * r.score.low if r.score else None,
        y_high=100 * r.score.high if r.score else None,
        kind=r.latency.kind if r.latency else "",
        hover=_hover(r),
    )


def _hover(r: Record) -> str:
    lines = [f"<b>trial {label(r)}</b> {text(r.candidate.space)}, {r.phase}"]
    if r.score:
        lines.append(f"{r.score.accuracy:.1%} [{r.score.low:.1%}, {r.score.high:.1%}] {text(r.accuracy_split)}")
    if r.latency:
        lines.append(f"{r.latency.latency_ms:.3g} ms {r.latency.kind}, {text(r.latency.device)}")
    if host := host_measurement(r):
        lines.append(f"{host.p5_ms or host.latency_ms:.3g} ms measured, {text(host.device)}")
    if r.params and r.macs:
        lines.append(f"{r.params:,} weights, {r.macs / 1e6:.2f} MMAC, {(r.size_bytes or 0) / 1e3:.1f} kB")
    lines.append(f"sparsity {r.candidate.sparsity:.0%}, {text(bits_words(r.candidate.bits))}")
    lines.append(f"{r.epochs:.1f} epochs")
    return "<br>".join([*lines, *([text(r.reason)] if r.reason else [])])


def table_section(view: View, *, named: bool) -> str:
    """The table of a run's front, with the command that exports each member, and who fell off.

    `named` says whether the title names the run.
    """
    before = {r.key: r for r in view.searched}
    head = [
        "trial", "accuracy", "in the search", "latency on the target", "host, p5", "file", "MMAC", "compression",
        "epochs", "take it",
    ]  # fmt: skip
    first = [view.base] if view.base else []
    body = [_table_row(view, r, before.get(r.key) if r is not view.base else None) for r in (*first, *view.front)]
    which = "Verified front" if view.verified_front else "Search front"
    note = (
        "Trained in full and measured again after the search. An interval holds with 95 %. "
        + ("Test figures were taken once, on the final files." if any(r.test for r in view.front) else NO_TEST)
        if view.verified_front
        else "Not verified yet: these candidates were chosen by the very scores shown, so expect some to fall back."
    )
    fell = [f"trial {f.search.trial} ({percent(f.search)} in the search): {text(f.reason)}" for f in view.fallen]
    told = f"<p><b>Fell off the front when trained in full:</b></p>{paper.listing(fell)}" if fell else ""
    if view.verified_front and not fell:
        told = "<p>Nobody who was verified fell off the front.</p>"
    waiting = len({r.key for r in view.search_front} - {r.key for r in latest(view.records, "verified")})
    if view.verified_front and waiting:
        told += f"<p>{waiting} further members of the search front were not trained in full.</p>"
    return paper.section(
        f"{which}{f' of {view.name}' if named else ''}", note, paper.table(head, body, wrap=[3, 7, 9]), told
    )


def _table_row(view: View, r: Record, before: Record | None) -> list[str]:
    score, latency, host = r.score, r.latency, host_measurement(r)
    at_target, at_host = NOTHING, NOTHING
    if latency:
        span = f"<small>{latency.low_ms:.3g} to {latency.high_ms:.3g}; {text(latency.device)}</small>"
        at_target = f"<b>{ms(latency)}</b> {paper.kind_tag(latency.kind)}{span}"
    if host:
        at_host = f"{host.p5_ms or host.latency_ms:.3g} ms<small>median {host.latency_ms:.3g}</small>"
    return [
        f"<b>{label(r)}</b><small>{'not compressed' if r is view.base else r.key[:8]}</small>",
        f"<b>{percent(r)}</b><small>{score.low:.1%} to {score.high:.1%}</small>{_test(r)}" if score else NOTHING,
        percent(before) if before and before is not r else NOTHING,
        at_target,
        at_host,
        f"{(r.size_bytes or 0) / 1e3:.1f} kB<small>{r.params or 0:,} weights</small>{_ratios(view.base, r)}",
        f"{(r.macs or 0) / 1e6:.2f}",
        f"{r.candidate.sparsity:.0%} of channels{_compression(r)}",
        f"{r.epochs:.1f}",
        paper.command(f"nas export {view.folder.path} --trial {label(r)}"),
    ]


def _compression(r: Record) -> str:
    parts = [widths_words(r.candidate), bits_words(r.candidate.bits), settings_words(r.candidate), gain_words(r)]
    return "".join(f"<small>{text(part)}</small>" for part in (*parts, *r.notes) if part)


def _ratios(base: Record | None, r: Record) -> str:
    """How much smaller than the uncompressed net."""
    if base is None or r is base:
        return ""
    weights, size = compression_ratio(base, r), size_ratio(base, r)
    return f"<small>R {weights:.2f} of weights, {size:.2f} of bytes</small>" if weights and size else ""
