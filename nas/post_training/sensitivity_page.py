"""Page and table of a net's sensitivity by layer."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from nas.files import write_atomic
from nas.latency.int8_speedup import Int8Speedup
from nas.post_training.sensitivity import LayerSensitivity, Sensitivity
from nas.reporting import plots
from nas.reporting.rendering import render

TITLES = (
    "layer", "channels", "pruned: points lost", "pruned: times as fast", "INT8: points lost", "INT8: times as fast",
)  # fmt: skip
PRUNING, INT8 = "pruned by half", "INT8"


def sensitivity_rows(sensitivity: Sensitivity) -> list[tuple[str, ...]]:
    """A row of cells for each layer, in the order of `TITLES`."""
    return [_cells(layer) for layer in sensitivity.layers]


def sensitivity_facts(sensitivity: Sensitivity) -> list[tuple[str, str]]:
    """What the figures rest on: accuracy and latency of the whole net, by name."""
    latency = sensitivity.latency
    images = f"{sensitivity.n_images:,} images of {sensitivity.split_name}"
    value = f"{latency.latency_ms:.4g} ms [{latency.low_ms:.4g}, {latency.high_ms:.4g}], {latency.kind}"
    return [
        ("accuracy", f"{sensitivity.accuracy:.2%} on {images}"), ("latency", value), ("device", latency.device),
        *(("note", note) for note in latency.notes if "busy" in note),
    ]  # fmt: skip


def write_page(sensitivity: Sensitivity, path: Path) -> Path:
    """Write the figures with bars as one HTML file that needs no network.

    Returns:
        `path`.
    """
    layers = sensitivity.layers
    cost = {PRUNING: _values(layers, "pruning_cost"), INT8: _values(layers, "int8_cost")}
    gain = {PRUNING: _gains(layers, "pruning_gain"), INT8: _gains(layers, "int8_gain")}
    cost_note = "Percentage points of accuracy that are lost where this layer alone is changed, without fine-tuning."
    gain_note = (
        "Share of the latency that is saved, by 5th percentiles: by pruning, of the whole net; by INT8, of the INT8 "
        "net with this layer in float."
    )
    drawn = [
        ("Cost", cost_note, _bars(cost, x="points of accuracy lost", name="cost")),
        ("Gain", gain_note, _bars(gain, x="latency saved, %", name="gain")),
    ]
    page = render(
        "sensitivity.html", name=sensitivity.model, facts=sensitivity_facts(sensitivity), plots=drawn, titles=TITLES,
        rows=sensitivity_rows(sensitivity), plotly=Markup(plots.plotly_script()),  # noqa: S704  the library's own file
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_atomic(path, page)


def _cells(layer: LayerSensitivity) -> tuple[str, ...]:
    channels = f"{layer.channels[0]} to {layer.channels[1]}" if layer.channels else "-"
    return (
        layer.name, channels, _points(layer.pruning_cost), _times(layer.pruning_gain), _points(layer.int8_cost),
        _times(layer.int8_gain),
    )  # fmt: skip


def _points(cost: float | None) -> str:
    return "-" if cost is None else f"{cost:+.2f}"


def _times(gain: Int8Speedup | None) -> str:
    if gain is None:
        return "-"
    return f"{gain.speedup:.3f}" + (f" [{gain.low:.3f}, {gain.high:.3f}]" if gain.kind == "measured" else "")


def _values(layers: Sequence[LayerSensitivity], attribute: str) -> dict[str, float]:
    return {layer.name: value for layer in layers if (value := getattr(layer, attribute)) is not None}


def _gains(layers: Sequence[LayerSensitivity], attribute: str) -> dict[str, float]:
    """Share of the latency that is saved, in per cent."""
    return {layer: 100 * (1 - 1 / gain.speedup) for layer, gain in _speedups(layers, attribute)}


def _speedups(layers: Sequence[LayerSensitivity], attribute: str) -> list[tuple[str, Int8Speedup]]:
    return [(layer.name, gain) for layer in layers if (gain := getattr(layer, attribute)) is not None]


def _bars(series: dict[str, dict[str, float]], *, x: str, name: str) -> Markup:
    shown = {title: values for title, values in series.items() if values}
    n_bars = max((len(values) for values in shown.values()), default=1)
    return Markup(plots.bar_plot(shown, x=x, name=name, max_bars=2 * n_bars))  # noqa: S704  made by plotly
