"""Published models in the plot of the front and in its table, marked as such."""

from typing import Any

from nas.reporting import plots
from nas.reporting.rendering import render
from nas.reporting.run_view import RunView, format_latency
from nas.results.published_baseline import PublishedBaseline


def published_series(view: RunView, *, colour: str, suffix: str) -> list[plots.PlotSeries]:
    """The published models of a run as a series of the plot; empty without any.

    Args:
        view: the run.
        colour: of the markers.
        suffix: of the name in the legend.
    """
    points = tuple(_plot_point(baseline) for baseline in view.published)
    return (
        [plots.PlotSeries(name=f"published{suffix}", role="published", colour=colour, points=points)] if points else []
    )


def published_row(baseline: PublishedBaseline) -> dict[str, Any]:
    """The cells of the table of the front, as text; empty where a figure is unknown or has no meaning."""
    score, latency, host = baseline.score, baseline.latency, baseline.measured
    return {
        "is_published": True,
        "label": baseline.name,
        "key": "published baseline",
        "accuracy": f"{score.accuracy:.1%}",
        "interval": f"{score.low:.1%} to {score.high:.1%}",
        "test": "",
        "searched": "",
        "target": format_latency(latency),
        "kind": latency.kind,
        "target_interval": f"{latency.low_ms:.3g} to {latency.high_ms:.3g}",
        "device": latency.device,
        "host": f"{host.robust_ms:.3g} ms" if host else "",
        "host_median": f"median {host.latency_ms:.3g}" if host else "",
        "file": f"{baseline.size_bytes / 1e3:.1f} kB",
        "weights": _format_weights(baseline),
        "ratios": "",
        "mmac": f"{baseline.macs / 1e6:.2f}" if baseline.macs is not None else "",
        "sparsity": "",
        "compression": [],
        "epochs": "",
        "command": "",
    }


def _plot_point(baseline: PublishedBaseline) -> plots.PlotPoint:
    score, latency = baseline.score, baseline.latency
    size_kb, host = baseline.size_bytes / 1e3, baseline.host
    at_host = baseline.measured.robust_ms if baseline.measured else None
    lines = [
        "published baseline, not a member of the front",
        f"{score.accuracy:.1%} [{score.low:.1%}, {score.high:.1%}] {baseline.accuracy_split}",
        f"{latency.latency_ms:.3g} ms {latency.kind}, {latency.device}",
        *([f"{host.robust_ms:.3g} ms measured, {host.device}"] if host else []),
        f"{_format_weights(baseline)}, {size_kb:.1f} kB",
    ]
    return plots.PlotPoint(
        x=(
            (latency.latency_ms, latency.low_ms, latency.high_ms),
            (at_host, at_host, at_host) if at_host else None,
            (size_kb, size_kb, size_kb),
        ),
        y=100 * score.accuracy,
        y_low=100 * score.low,
        y_high=100 * score.high,
        kind=latency.kind,
        hover=render("hover.html", title=baseline.name, lines=lines),
    )


def _format_weights(baseline: PublishedBaseline) -> str:
    return f"{baseline.params:,} weights" if baseline.params is not None else "weights unknown"
