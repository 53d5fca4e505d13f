"""The report's main part: the plot of the front, and its table beside what the search had said."""

from collections.abc import Sequence

from nas.latency.estimate import Latency
from nas.reporting import page as paper
from nas.reporting import plots
from nas.reporting.page import escape_html
from nas.reporting.run_view import RunView, format_accuracy, format_latency, record_label
from nas.results.compression_effect import compression_ratio, size_ratio
from nas.results.formatting import format_bits, format_int8_speedup, format_settings, format_widths
from nas.results.front import is_feasible, latest_by_key
from nas.results.front_table import host_latency
from nas.results.record import Record

EMPTY_CELL = "&mdash;"
NO_TEST_NOTE = "The data has no test split here, so there is no test figure."
X_AXIS_TITLES = (
    "latency on the target, ms",
    "latency on the machine of the search, ms (5th percentile)",
    "size of the file, kB",
)


def front_section(views: Sequence[RunView]) -> str:
    """The plot of all fronts: where each candidate is, what was searched, and where full training took it."""
    layers = [layer for i, v in enumerate(views) for layer in _plot_series(v, i, show_run_name=len(views) > 1)]
    c = views[0].config
    limits = (
        (c.limits.max_latency, 100 * c.limits.min_accuracy if c.limits.min_accuracy else None)
        if len(views) == 1
        else (None, None)
    )
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
    return paper.section("The front", note, plots.front_plot(layers, X_AXIS_TITLES, limits=limits))


def _test_accuracy_html(r: Record) -> str:
    """The test split's figure under that of the selection split."""
    return f"<small>test {r.test.accuracy:.1%} ({r.test.low:.1%} to {r.test.high:.1%})</small>" if r.test else ""


def _relative_error(m: Latency | None) -> float | None:
    """Half-width of a predicted latency's interval, as a share of it."""
    return m.high_ms / m.latency_ms - 1 if m and m.kind == "predicted" and m.latency_ms else None


def _plot_series(view: RunView, index: int, *, show_run_name: bool) -> list[plots.PlotSeries]:
    main = plots.COLOURS[index % len(plots.COLOURS)]
    second = main if show_run_name else "#4357ad"
    suffix = f", {view.name}" if show_run_name else ""
    on_front = {r.key for r in view.fronts.search}
    verified = {r.key: r for r in latest_by_key(view.records, "verified") if r.status == "complete"}
    moved = [p for r in view.fronts.search if r.key in verified for p in (r, verified[r.key])]
    fell = {f.verified.key for f in view.fronts.dropped}
    groups = (
        ("broke a limit, never trained", "untrained", plots.PALE, [
            r for r in view.search_records if r.status == "infeasible" and not r.score and r.latency
        ]),
        ("broke a limit", "infeasible", plots.PALE, [r for r in view.search_records if r.score and not is_feasible(r)]),
        ("dominated", "dominated", plots.GREY, [r for r in view.search_records if is_feasible(r) and r.key not in on_front]),
        ("moved", "moved", plots.GREY, moved),
        ("search front", "search", second, view.fronts.search),
        ("fell off", "dominated", "#b4441a", [r for k, r in verified.items() if k in fell]),
        ("verified front", "verified", main, view.fronts.verified),
        ("uncompressed net", "base", plots.INK, [view.baseline] if view.baseline else []),
    )  # fmt: skip
    return [
        plots.PlotSeries(name=name + suffix, role=role, colour=colour, points=tuple(_plot_point(r) for r in members))
        for name, role, colour, members in groups
        if members
    ]


def _plot_point(r: Record) -> plots.PlotPoint:
    host = host_latency(r)
    size = r.size_bytes / 1e3 if r.size_bytes else None
    at_host = (host.p5_ms or host.latency_ms) if host else None
    return plots.PlotPoint(
        x=(
            (r.latency.latency_ms, r.latency.low_ms, r.latency.high_ms) if r.latency else None,
            (at_host, at_host, at_host) if at_host else None,
            (size, size, size) if size else None,
        ),
        y=100 * r.score.accuracy if r.score else None,
        y_low=100 * r.score.low if r.score else None,
        y_high=100 * r.score.high if r.score else None,
        kind=r.latency.kind if r.latency else "",
        hover=_hover_html(r),
    )


def _hover_html(r: Record) -> str:
    lines = [f"<b>trial {record_label(r)}</b> {escape_html(r.candidate.space)}, {r.phase}"]
    if r.score:
        lines.append(f"{r.score.accuracy:.1%} [{r.score.low:.1%}, {r.score.high:.1%}] {escape_html(r.accuracy_split)}")
    if r.latency:
        lines.append(f"{r.latency.latency_ms:.3g} ms {r.latency.kind}, {escape_html(r.latency.device)}")
    if host := host_latency(r):
        lines.append(f"{host.p5_ms or host.latency_ms:.3g} ms measured, {escape_html(host.device)}")
    if r.params and r.macs:
        lines.append(f"{r.params:,} weights, {r.macs / 1e6:.2f} MMAC, {(r.size_bytes or 0) / 1e3:.1f} kB")
    lines.append(f"sparsity {r.candidate.sparsity:.0%}, {escape_html(format_bits(r.candidate.bits))}")
    lines.append(f"{r.epochs:.1f} epochs")
    return "<br>".join([*lines, *([escape_html(r.reason)] if r.reason else [])])


def table_section(view: RunView, *, show_run_name: bool) -> str:
    """The table of a run's front, with the command that exports each member, and who fell off.

    `show_run_name` says whether the title names the run.
    """
    before = {r.key: r for r in view.search_records}
    head = [
        "trial", "accuracy", "in the search", "latency on the target", "host, p5", "file", "MMAC", "compression",
        "epochs", "take it",
    ]  # fmt: skip
    first = [view.baseline] if view.baseline else []
    body = [_table_row(view, r, before.get(r.key) if r is not view.baseline else None) for r in (*first, *view.front)]
    which = "Verified front" if view.fronts.verified else "Search front"
    note = (
        "Trained in full and measured again after the search. An interval holds with 95 %. "
        + ("Test figures were taken once, on the final files." if any(r.test for r in view.front) else NO_TEST_NOTE)
        if view.fronts.verified
        else "Not verified yet: these candidates were chosen by the very scores shown, so expect some to fall back."
    )
    fell = [
        f"trial {f.search.trial} ({format_accuracy(f.search)} in the search): {escape_html(f.reason)}"
        for f in view.fronts.dropped
    ]
    told = f"<p><b>Fell off the front when trained in full:</b></p>{paper.bullet_list(fell)}" if fell else ""
    if view.fronts.verified and not fell:
        told = "<p>Nobody who was verified fell off the front.</p>"
    waiting = len({r.key for r in view.fronts.search} - {r.key for r in latest_by_key(view.records, "verified")})
    if view.fronts.verified and waiting:
        told += f"<p>{waiting} further members of the search front were not trained in full.</p>"
    return paper.section(
        f"{which}{f' of {view.name}' if show_run_name else ''}", note, paper.table(head, body, wrap=[3, 7, 9]), told
    )


def _table_row(view: RunView, r: Record, before: Record | None) -> list[str]:
    score, latency, host = r.score, r.latency, host_latency(r)
    at_target, at_host = EMPTY_CELL, EMPTY_CELL
    if latency:
        span = f"<small>{latency.low_ms:.3g} to {latency.high_ms:.3g}; {escape_html(latency.device)}</small>"
        at_target = f"<b>{format_latency(latency)}</b> {paper.latency_kind_badge(latency.kind)}{span}"
    if host:
        at_host = f"{host.p5_ms or host.latency_ms:.3g} ms<small>median {host.latency_ms:.3g}</small>"
    return [
        f"<b>{record_label(r)}</b><small>{'not compressed' if r is view.baseline else r.key[:8]}</small>",
        f"<b>{format_accuracy(r)}</b><small>{score.low:.1%} to {score.high:.1%}</small>{_test_accuracy_html(r)}"
        if score
        else EMPTY_CELL,
        format_accuracy(before) if before and before is not r else EMPTY_CELL,
        at_target,
        at_host,
        f"{(r.size_bytes or 0) / 1e3:.1f} kB<small>{r.params or 0:,} weights</small>{_compression_ratio_html(view.baseline, r)}",
        f"{(r.macs or 0) / 1e6:.2f}",
        f"{r.candidate.sparsity:.0%} of channels{_compression_html(r)}",
        f"{r.epochs:.1f}",
        paper.copyable_command(f"nas export {view.folder.path} --trial {record_label(r)}"),
    ]


def _compression_html(r: Record) -> str:
    parts = [
        format_widths(r.candidate),
        format_bits(r.candidate.bits),
        format_settings(r.candidate),
        format_int8_speedup(r),
    ]
    return "".join(f"<small>{escape_html(part)}</small>" for part in (*parts, *r.notes) if part)


def _compression_ratio_html(baseline: Record | None, r: Record) -> str:
    """How much smaller than the uncompressed net."""
    if baseline is None or r is baseline:
        return ""
    weights, size = compression_ratio(baseline, r), size_ratio(baseline, r)
    return f"<small>R {weights:.2f} of weights, {size:.2f} of bytes</small>" if weights and size else ""
