"""Plots of the report from plain numbers: the front, step curves and horizontal bars, as HTML by plotly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.io import to_html
from plotly.offline import get_plotlyjs

COLOURS = ("#0b6e69", "#c2570c", "#4357ad", "#a3387a", "#6b7f1d", "#7a4b2a")
GREY, PALE, INK = "#8593a3", "#c3cad2", "#1b2430"
PUBLISHED = "#a3387a"
SYMBOLS = {"measured": "circle", "predicted": "diamond-open"}
PUBLISHED_SYMBOLS = {"measured": "cross", "predicted": "cross-open"}
WITH_INTERVALS = frozenset({"search", "verified", "base", "published"})
"""Roles whose intervals can be shown."""
FONT = 'system-ui,-apple-system,"Segoe UI",Roboto,sans-serif'
MAX_EQUAL_STEPS = 1000
"""Values up to which a step curve is drawn with those that equal the one before."""
LOG_SCALE_MIN_RATIO = 8.0
"""Ratio of the largest to the smallest value above which an axis is logarithmic."""


@dataclass(frozen=True, kw_only=True)
class PlotPoint:
    """One candidate in the plot of the front.

    Attributes:
        x: one (value, low, high) for each selectable x axis; None where unknown.
        y: accuracy in percent; None where unknown.
        y_low: lower end of its 95 % interval.
        y_high: upper end of that interval.
        kind: `measured` or `predicted`, of the target latency.
        hover: HTML of the hover box.
    """

    x: tuple[tuple[float, float, float] | None, ...]
    y: float | None
    y_low: float | None
    y_high: float | None
    kind: str
    hover: str


@dataclass(frozen=True, kw_only=True)
class PlotSeries:
    """Points in one style.

    Attributes:
        name: in the legend.
        role: untrained, infeasible, dominated, moved, search, verified, base or published. The points of `moved` come
            in pairs: a candidate in the search, and after full training.
        colour: CSS colour.
        points: in drawing order.
    """

    name: str
    role: str
    colour: str
    points: tuple[PlotPoint, ...]


def plotly_script() -> str:
    """The whole of plotly.js, so that the page needs no network."""
    return str(get_plotlyjs())


def front_plot(layers: Sequence[PlotSeries], axes: Sequence[str], *, limits: tuple[float | None, float | None]) -> str:
    """The front as HTML.

    Args:
        layers: in drawing order.
        axes: titles of the selectable x axes; the first is shown at the start.
        limits: largest value allowed on the first axis, and smallest accuracy allowed in percent; None for no limit.
    """
    known = [p.y for layer in layers for p in layer.points if p.y is not None]
    # Candidates without an accuracy are ticks a little below the lowest one; + 1 separates them from a single point.
    floor = min(known, default=0.0) - 0.06 * (max(known, default=1.0) - min(known, default=0.0) + 1)
    figure = go.Figure([_trace(layer, floor) for layer in layers if layer.points])
    shown = [layer for layer in layers if layer.points]
    shapes = _limit_lines(limits)
    figure.update_layout(
        xaxis={"title": {"text": axes[0]}, "type": _axis_type(shown, 0)},
        yaxis={"title": {"text": "accuracy, %"}},
        shapes=shapes,
        updatemenus=[_axis_buttons(shown, axes, shapes), _interval_buttons(shown)],
    )
    return _to_html(figure, "front", height=590, top=64)


def step_plot(series: Mapping[str, Sequence[float]], *, x: str, y: str, name: str) -> str:
    """Step curves over 1, 2, 3, ... as HTML; `name` is unique in the page."""
    figure = go.Figure()
    for colour, (title, values) in zip(COLOURS * 9, series.items(), strict=False):
        places = _step_places(values)
        figure.add_scatter(
            x=[i + 1 for i in places], y=[values[i] for i in places], name=title, mode="lines",
            line={"color": colour, "shape": "hv", "width": 2.5},
        )  # fmt: skip
    figure.update_layout(
        xaxis={"title": {"text": x}}, yaxis={"title": {"text": y}, "rangemode": "tozero"}, showlegend=len(series) > 1
    )
    return _to_html(figure, name, height=340)


def _step_places(values: Sequence[float]) -> list[int]:
    """Places of a step curve that are drawn: all of a short one; of a long one the first, the last, and each step."""
    last = len(values) - 1
    return [i for i in range(len(values)) if last < MAX_EQUAL_STEPS or i in (0, last) or values[i] != values[i - 1]]


def bar_plot(series: Mapping[str, Mapping[str, float]], *, x: str, name: str, max_bars: int = 14) -> str:
    """Horizontal bars as HTML.

    Args:
        series: title to the value of each bar by its name.
        x: title of the x axis.
        name: unique in the page.
        max_bars: bars drawn, those with the largest sums over all series.
    """
    totals: dict[str, float] = {}
    for values in series.values():
        for key, value in values.items():
            totals[key] = totals.get(key, 0.0) + value
    top = sorted(totals, key=lambda k: totals[k])[-max_bars:]
    figure = go.Figure()
    for colour, (title, values) in zip(COLOURS * 9, series.items(), strict=False):
        figure.add_bar(
            y=top, x=[values.get(k, 0.0) for k in top], name=title, orientation="h", marker={"color": colour}
        )
    figure.update_layout(
        xaxis={"title": {"text": x}}, yaxis={"automargin": True}, barmode="group", bargap=0.28,
        showlegend=len(series) > 1,
    )  # fmt: skip
    return _to_html(figure, name, height=max(340, 90 + 24 * len(top)))


def _trace(layer: PlotSeries, floor: float) -> go.Scatter:
    points, role = layer.points, layer.role
    front_like = role in {"search", "verified"}
    xs: list[float | None] = _x_values(layer, 0)
    ys = [floor if p.y is None else p.y for p in points]
    hover = [p.hover for p in points]
    if role == "moved":
        ys, hover = _pairs_with_gaps([p.y for p in points]), _pairs_with_gaps(hover)
    sizes = {"verified": 12, "search": 10, "dominated": 7, "infeasible": 7, "untrained": 9, "base": 14, "published": 13}
    fixed = {"untrained": "line-ns-open", "base": "star"}
    by_kind = PUBLISHED_SYMBOLS if role == "published" else SYMBOLS
    symbol = fixed[role] if role in fixed else [by_kind.get(p.kind, "x") for p in points]
    mode = {"moved": "lines"}.get(role, "lines+markers" if front_like else "markers")
    dash = {"search": "dot", "moved": "dot"}.get(role, "solid")
    trace = go.Scatter(
        x=xs, y=ys, name=layer.name, mode=mode, text=hover, hovertemplate="%{text}<extra></extra>",
        opacity=1.0 if role in WITH_INTERVALS else 0.75,
        line={"color": layer.colour, "dash": dash, "width": 1 if role == "moved" else 2, "shape": _line_shape(role)},
        marker={
            "color": layer.colour, "size": sizes.get(role, 1), "symbol": symbol,
            "line": {"width": 1.6, "color": layer.colour},
        },
        hoverinfo="skip" if role == "moved" else None, showlegend=role != "moved",
    )  # fmt: skip
    if role in WITH_INTERVALS:
        x_low, x_high = _error_bars([p.x[0] for p in points])
        y_low, y_high = _error_bars([None if p.y is None else (p.y, p.y_low or p.y, p.y_high or p.y) for p in points])
        style = {"type": "data", "thickness": 1, "width": 3, "color": layer.colour, "visible": False}
        trace.update(
            error_x={**style, "symmetric": False, "array": x_high, "arrayminus": x_low},
            error_y={**style, "symmetric": False, "array": y_high, "arrayminus": y_low},
        )
    return trace


def _line_shape(role: str) -> str:
    return "hv" if role in {"search", "verified"} else "linear"


def _x_values(layer: PlotSeries, axis: int) -> list[float | None]:
    values = [None if p.x[axis] is None else p.x[axis][0] for p in layer.points]  # type: ignore[index]
    return _pairs_with_gaps(values) if layer.role == "moved" else values


def _pairs_with_gaps(values: Sequence[object]) -> list:  # type: ignore[type-arg]
    """a, b, None, c, d, None: None separates the lines of two pairs."""
    return [v for i in range(0, len(values) - 1, 2) for v in (values[i], values[i + 1], None)]


def _error_bars(values: Sequence[tuple[float, float, float] | None]) -> tuple[list[float], list[float]]:
    down = [0.0 if v is None else v[0] - v[1] for v in values]
    return down, [0.0 if v is None else v[2] - v[0] for v in values]


def _axis_type(layers: Sequence[PlotSeries], axis: int) -> str:
    values = [v for layer in layers for v in _x_values(layer, axis) if v]
    return "log" if values and max(values) > LOG_SCALE_MIN_RATIO * min(values) else "linear"


def _limit_lines(limits: tuple[float | None, float | None]) -> list[dict[str, object]]:
    x, y = limits
    style = {"type": "line", "line": {"color": "#b4441a", "width": 1.5, "dash": "dash"}}
    upright = [{**style, "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper"}] if x else []
    return upright + ([{**style, "y0": y, "y1": y, "x0": 0, "x1": 1, "xref": "paper"}] if y else [])


def _axis_buttons(
    layers: Sequence[PlotSeries], axes: Sequence[str], shapes: list[dict[str, object]]
) -> dict[str, object]:
    def button(axis: int, title: str) -> dict[str, object]:
        spans = [_error_bars([p.x[axis] for p in layer.points]) for layer in layers]
        traces = {
            "x": [_x_values(layer, axis) for layer in layers],
            "error_x.arrayminus": [down for down, _ in spans],
            "error_x.array": [up for _, up in spans],
        }
        kept = shapes if axis == 0 else [s for s in shapes if "xref" in s]
        layout = {
            "xaxis.title.text": title,
            "xaxis.type": _axis_type(layers, axis),
            "xaxis.autorange": True,
            "shapes": kept,
        }
        return {"label": title.split(",")[0], "method": "update", "args": [traces, layout]}

    return _menu([button(i, title) for i, title in enumerate(axes)], x=0.0)


def _interval_buttons(layers: Sequence[PlotSeries]) -> dict[str, object]:
    shown = [i for i, layer in enumerate(layers) if layer.role in WITH_INTERVALS]
    buttons: list[dict[str, object]] = [
        {"label": label, "method": "restyle", "args": [{"error_x.visible": on, "error_y.visible": on}, shown]}
        for label, on in (("points", False), ("95 % intervals", True))
    ]
    return _menu(buttons, x=1.0)


def _menu(buttons: list[dict[str, object]], *, x: float) -> dict[str, object]:
    return {
        "type": "buttons" if x else "dropdown", "direction": "right" if x else "down", "buttons": buttons, "x": x,
        "xanchor": "right" if x else "left", "y": 1.02, "yanchor": "bottom", "pad": {"t": 0, "r": 0, "l": 0, "b": 4},
        "bgcolor": "#ffffff", "bordercolor": PALE, "font": {"size": 12}, "showactive": True,
    }  # fmt: skip


def _to_html(figure: go.Figure, name: str, *, height: int, top: int = 16) -> str:
    grid = {"gridcolor": "#e9edf1", "zeroline": False, "linecolor": PALE, "ticks": "outside", "tickcolor": PALE}
    below = 100 if len(figure.data) > 1 and figure.layout.showlegend is not False else 56  # the legend under the title
    figure.update_layout(
        template="none", height=height, autosize=True, font={"family": FONT, "size": 13, "color": INK},
        margin={"l": 62, "r": 16, "t": top, "b": below}, paper_bgcolor="white", plot_bgcolor="white",
        hoverlabel={"bgcolor": "white", "bordercolor": PALE, "font": {"color": INK, "size": 12.5}, "align": "left"},
        legend={"orientation": "h", "y": -72 / (height - top - below), "yanchor": "top", "x": 0, "font": {"size": 12}},
    )  # fmt: skip
    figure.update_xaxes(**grid, automargin=True)
    figure.update_yaxes(**grid)
    config = {"displayModeBar": False, "responsive": True}
    return str(to_html(figure, full_html=False, include_plotlyjs=False, div_id=f"plot-{name}", config=config))
