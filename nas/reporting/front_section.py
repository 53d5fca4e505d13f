"""Report sections on the front: its plot, and its table beside the figures of the search."""

import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from nas.latency.latency import Latency
from nas.reporting import plots
from nas.reporting.published_series import published_row, published_series
from nas.reporting.rendering import render
from nas.reporting.run_view import RunView, format_accuracy, format_latency
from nas.results.compression_effect import compression_ratio, size_ratio
from nas.results.formatting import format_bits, format_int8_speedup, format_settings, format_widths, record_label
from nas.results.front import is_feasible, latest_by_key
from nas.results.front_table import host_latency
from nas.results.record import Record

MAX_CLOUD_POINTS = 1000
"""Candidates of one kind off the front that are drawn in one run, evenly spaced in time: a browser draws these at once,
and more of them cover each other."""
CLOUDS = frozenset({"untrained", "infeasible", "dominated"})
"""Roles of the candidates off the front."""
PUBLISHED_NOTE = (
    "Crosses are published baselines, scored and timed as the candidates are; they are not members of the front."
)
X_AXIS_TITLES = (
    "latency on the target, ms",
    "latency on the search host, ms (5th percentile)",
    "size of the file, kB",
)


def front_section(views: Sequence[RunView]) -> Markup:
    """The plot of all fronts: every candidate, both fronts, and where full training moved each member."""
    if not any(v.front or v.published for v in views):
        return render("plot.html", title="The front", note="No candidate is complete yet.", plot="")
    series = [s for i, v in enumerate(views) for s in _plot_series(v, i, show_run_name=len(views) > 1)]
    limits = views[0].config.limits
    min_accuracy = 100 * limits.min_accuracy if limits.min_accuracy else None
    errors = [share for v in views for r in v.front if (share := _relative_error(r.latency))]
    note = (
        "Up and to the left is better. Filled circles are measured, open diamonds predicted. A solid line joins the "
        "verified front (trained in full and measured again), a dotted line the search front; thin dotted lines show "
        "where full training moved each member. Ticks at the bottom are candidates that violated a constraint before "
        "any training. Dashed lines are the constraints."
    )
    if any(v.published for v in views):
        note += f" {PUBLISHED_NOTE}"
    if not any(v.front for v in views):
        note = f"Up and to the left is better. The star is the model of this run. {PUBLISHED_NOTE}"
    if errors:
        note += f" A predicted latency may be off by about {max(errors):.0%}; switch the intervals on to see it."
    plot = plots.front_plot(
        series, X_AXIS_TITLES, limits=(limits.max_latency, min_accuracy) if len(views) == 1 else (None, None)
    )
    return render("plot.html", title="The front", note=note, plot=Markup(plot))  # noqa: S704  made by plotly


def table_section(view: RunView, *, show_run_name: bool) -> Markup:
    """The table of a run's front, with the command that exports each member, and the members that dropped off.

    Args:
        view: the run.
        show_run_name: whether the title names the run.
    """
    searched = {r.key: r for r in view.search_records}
    is_verified = bool(view.fronts.verified)
    note = "Not verified yet: these candidates were selected by the scores shown, so expect some to drop."
    if is_verified:
        test_note = "This run has no test split, so there is no test figure."
        if any(r.test for r in view.front):
            test_note = "Test figures were taken once, on the final files."
        note = f"Trained in full and measured again after the search. Intervals are 95 % intervals. {test_note}"
    title = f"{'Verified' if is_verified else 'Search'} front"
    if not view.front and view.baseline:
        title, note = "Model", "Its figures were read from the final file. Intervals are 95 % intervals."
    trained = {r.key for r in latest_by_key(view.records, "verified")}
    return render(
        "front_table.html",
        title=f"{title}{f' of {view.name}' if show_run_name else ''}",
        note=note,
        rows=[
            *([_table_row(view, view.baseline, None)] if view.baseline else []),
            *(_table_row(view, r, searched.get(r.key)) for r in view.front),
            *(published_row(baseline) for baseline in view.published),
        ],
        comparisons=[f"{sentence}." for sentence in view.comparisons],
        published_notes=[note for baseline in view.published for note in baseline.notes],
        dropped=[
            f"trial {d.search.trial} ({format_accuracy(d.search)} in the search): {d.reason}"
            for d in view.fronts.dropped
        ],
        is_verified=is_verified,
        n_waiting=len({r.key for r in view.fronts.search} - trained),
    )


def _relative_error(latency: Latency | None) -> float | None:
    """Half-width of a predicted latency's interval, as a share of the latency."""
    if latency is None or latency.kind != "predicted" or not latency.latency_ms:
        return None
    return latency.high_ms / latency.latency_ms - 1


def _plot_series(view: RunView, index: int, *, show_run_name: bool) -> list[plots.PlotSeries]:
    main = plots.COLOURS[index % len(plots.COLOURS)]
    second = main if show_run_name else "#4357ad"
    suffix = f", {view.name}" if show_run_name else ""
    on_front = {r.key for r in view.fronts.search}
    verified = {r.key: r for r in latest_by_key(view.records, "verified") if r.status == "complete"}
    moved = [p for r in view.fronts.search if r.key in verified for p in (r, verified[r.key])]
    dropped = {d.verified.key for d in view.fronts.dropped}
    untrained = [r for r in view.search_records if r.status == "infeasible" and not r.score and r.latency]
    infeasible = [r for r in view.search_records if r.score and not is_feasible(r)]
    dominated = [r for r in view.search_records if is_feasible(r) and r.key not in on_front]
    groups = (
        ("infeasible, not trained", "untrained", plots.PALE, untrained),
        ("infeasible", "infeasible", plots.PALE, infeasible),
        ("dominated", "dominated", plots.GREY, dominated),
        ("moved", "moved", plots.GREY, moved),
        ("search front", "search", second, view.fronts.search),
        ("dropped", "dominated", "#b4441a", [r for key, r in verified.items() if key in dropped]),
        ("verified front", "verified", main, view.fronts.verified),
        ("uncompressed model", "base", plots.INK, [view.baseline] if view.baseline else []),
    )
    drawn = [
        plots.PlotSeries(
            name=name + suffix + _describe_share(role, members), role=role, colour=colour,
            points=tuple(_plot_point(r) for r in _drawn(role, members)),
        )
        for name, role, colour, members in groups
        if members
    ]  # fmt: skip
    return [*drawn, *published_series(view, colour=main if show_run_name else plots.PUBLISHED, suffix=suffix)]


def _drawn(role: str, members: Sequence[Record]) -> Sequence[Record]:
    """The members that are drawn: all of a front, at most `MAX_CLOUD_POINTS` of a cloud."""
    if role not in CLOUDS or len(members) <= MAX_CLOUD_POINTS:
        return members
    return [members[i] for i in np.linspace(0, len(members) - 1, MAX_CLOUD_POINTS).astype(int)]


def _describe_share(role: str, members: Sequence[Record]) -> str:
    """How many of the members are drawn, for the legend; empty where all are."""
    n = len(_drawn(role, members))
    return "" if n == len(members) else f" ({n:,} of {len(members):,})"


def _plot_point(r: Record) -> plots.PlotPoint:
    size_kb = r.size_bytes / 1e3 if r.size_bytes else None
    host = host_latency(r)
    at_host = host.robust_ms if host else None
    return plots.PlotPoint(
        x=(
            (r.latency.latency_ms, r.latency.low_ms, r.latency.high_ms) if r.latency else None,
            (at_host, at_host, at_host) if at_host else None,
            (size_kb, size_kb, size_kb) if size_kb else None,
        ),
        y=100 * r.score.accuracy if r.score else None,
        y_low=100 * r.score.low if r.score else None,
        y_high=100 * r.score.high if r.score else None,
        kind=r.latency.kind if r.latency else "",
        hover=render("hover.html", title=f"trial {record_label(r)}", lines=_hover_lines(r)),
    )


def _hover_lines(r: Record) -> list[str]:
    lines = [f"{r.candidate.space}, {r.phase}"]
    if r.score:
        lines.append(f"{r.score.accuracy:.1%} [{r.score.low:.1%}, {r.score.high:.1%}] {r.accuracy_split}")
    if r.latency:
        lines.append(f"{r.latency.latency_ms:.3g} ms {r.latency.kind}, {r.latency.device}")
    if host := host_latency(r):
        lines.append(f"{host.robust_ms:.3g} ms measured, {host.device}")
    if r.params and r.macs:
        lines.append(f"{r.params:,} weights, {r.macs / 1e6:.2f} MMAC, {(r.size_bytes or 0) / 1e3:.1f} kB")
    lines.append(f"sparsity {r.candidate.sparsity:.0%}, {format_bits(r.candidate.bits)}")
    lines.append(f"{r.epochs:.1f} epochs")
    return [*lines, *([r.reason] if r.reason else [])]


def _table_row(view: RunView, r: Record, searched: Record | None) -> dict[str, Any]:
    """The cells of one record, as text; empty where a figure is unknown.

    Args:
        view: the run.
        r: the record.
        searched: the record of the same candidate in the search.
    """
    score, test, latency, host = r.score, r.test, r.latency, host_latency(r)
    return {
        "is_published": False,
        "label": record_label(r),
        "key": "not compressed" if r is view.baseline else r.key[:8],
        "accuracy": format_accuracy(r) if score else "",
        "interval": f"{score.low:.1%} to {score.high:.1%}" if score else "",
        "test": f"test {test.accuracy:.1%} ({test.low:.1%} to {test.high:.1%})" if test else "",
        "searched": format_accuracy(searched) if searched and searched is not r else "",
        "target": format_latency(latency) if latency else "",
        "kind": latency.kind if latency else "",
        "target_interval": f"{latency.low_ms:.3g} to {latency.high_ms:.3g}" if latency else "",
        "device": latency.device if latency else "",
        "host": f"{host.robust_ms:.3g} ms" if host else "",
        "host_median": f"median {host.latency_ms:.3g}" if host else "",
        "file": f"{(r.size_bytes or 0) / 1e3:.1f} kB",
        "weights": f"{r.params or 0:,} weights",
        "ratios": _format_ratios(view.baseline, r),
        "mmac": f"{(r.macs or 0) / 1e6:.2f}",
        "sparsity": f"{r.candidate.sparsity:.0%} of channels",
        "compression": _compression_lines(r),
        "epochs": f"{r.epochs:.1f}",
        "command": f"nas export {shlex.quote(str(view.folder.path))} --trial {record_label(r)}",
    }


def _compression_lines(r: Record) -> list[str]:
    candidate = r.candidate
    lines = (format_widths(candidate), format_bits(candidate.bits), format_settings(candidate), format_int8_speedup(r))
    return [line for line in (*lines, *r.notes) if line]


def _format_ratios(baseline: Record | None, r: Record) -> str:
    """How much smaller than the uncompressed model; empty for that model itself."""
    if baseline is None or r is baseline:
        return ""
    weights, size = compression_ratio(baseline, r), size_ratio(baseline, r)
    return f"R {weights:.2f} of weights, {size:.2f} of bytes" if weights and size else ""
