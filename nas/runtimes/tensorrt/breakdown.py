"""Breakdown of a board's time from what trtexec itself prints and writes: copies, kernels, reformats and launch gaps.

Three runs of one engine, as text and JSON; pure functions. The forms are those of `samples/common/sampleReporting.cpp`
of https://github.com/NVIDIA/TensorRT at tags 8.2 to 11.1.

- As measured: one CUDA graph, no copies. Its median is the GPU time.
- As an application calls it: no graph, with copies. It gives H2D, D2H, the time to enqueue, and a longer GPU time; what
  the latter has more than the graph are gaps between launches.
- By layer (`--exportProfile`): events around each layer lengthen them, so only shares are used.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from nas.errors import MeasureError
from nas.runtimes.base import LayerTiming
from nas.runtimes.time_breakdown import WITHOUT_CAMERA, TimeBreakdown, TimePart

ENQUEUE_BOUND = 0.8
"""Share of the GPU time from which trtexec itself says that the time to enqueue may bound the throughput."""
MANY_REFORMATS = 0.1
"""Share of the GPU time from which reformats are worth a remark."""
_LINE_PATTERN = re.compile(
    r"\] (Latency|Enqueue Time|H2D Latency|GPU Compute Time|D2H Latency): min = .*?median = ([0-9.eE+-]+) ms"
)
_COPY_PATTERN = re.compile(r"^\[(HostToDevice|DeviceToHost)Copy|copy finish$|(^| )(to|from) nvm$")


_TITLES = {
    "kernel": "kernels", "foreign": "compiled regions", "reformat": "reformats", "copy": "copies on the board",
}  # fmt: skip
"""Name of a part by the kind of its layers."""


@dataclass(frozen=True, kw_only=True)
class TimingSummary:
    """Medians of one run of trtexec in ms, from its summary; 0 where it copies nothing.

    Attributes:
        h2d_ms: copy of the input to the GPU.
        compute_ms: the GPU's work.
        d2h_ms: copy of the output from the GPU.
        latency_ms: all three.
        enqueue_ms: the host's time to hand one inference to the GPU.
    """

    h2d_ms: float
    compute_ms: float
    d2h_ms: float
    latency_ms: float
    enqueue_ms: float


def parse_summary(log_text: str) -> TimingSummary:
    """Read the performance summary of a log.

    Raises:
        MeasureError: a line of it is missing, or holds no number.
    """
    found = dict(_LINE_PATTERN.findall(log_text))
    names = {
        "h2d_ms": "H2D Latency", "compute_ms": "GPU Compute Time", "d2h_ms": "D2H Latency", "latency_ms": "Latency",
        "enqueue_ms": "Enqueue Time",
    }  # fmt: skip
    try:
        values = {field: float(found[name]) for field, name in names.items()}
    except (KeyError, ValueError) as error:
        missing = str(error) if isinstance(error, KeyError) else "a number"
        raise MeasureError(f"trtexec must print a performance summary, but it lacks {missing}") from None
    if not all(0 <= ms < 3.6e6 for ms in values.values()) or not values["compute_ms"]:
        raise MeasureError(f"trtexec must print times of 0 ms or more, but printed {values}")
    return TimingSummary(**values)


def layer_kind(name: str) -> str:
    """Kind of a layer by its name in a profile: reformat, copy, foreign (a region compiled as a whole) or kernel."""
    if "Reformatting CopyNode" in name or name.endswith(("reformatter 0", "reformatter 1")):
        return "reformat"
    if _COPY_PATTERN.search(name):
        return "copy"
    return "foreign" if name.startswith("{ForeignNode[") else "kernel"


def explain_board(
    *,
    title: str,
    graph_ms: float,
    application: TimingSummary,
    layers: Sequence[LayerTiming],
    remarks: Sequence[str] = (),
) -> TimeBreakdown:
    """The breakdown of one inference as an application calls it.

    Args:
        title: what was timed, and where.
        graph_ms: median GPU time in a CUDA graph, without copies.
        application: medians without a graph and with copies.
        layers: profile of the layers; their sum may be any, only shares count.
        remarks: on the board's clocks and power mode.
    """
    total = sum(layer.ms for layer in layers) or 1.0
    groups = {kind: [layer for layer in layers if layer_kind(layer.name) == kind] for kind in _TITLES}
    parts = [TimePart(name="copy to the GPU", ms=application.h2d_ms)]
    parts += [
        TimePart(name=_TITLES[kind], ms=graph_ms * sum(x.ms for x in group) / total, detail=_longest(group))
        for kind, group in groups.items()
        if group
    ] or [TimePart(name="kernels", ms=graph_ms)]
    gaps_ms = max(0.0, application.compute_ms - graph_ms)
    parts += [
        TimePart(name="launch gaps", ms=gaps_ms, detail="gone in a CUDA graph"),
        TimePart(name="copy from the GPU", ms=application.d2h_ms),
    ]
    waits = f"an application without a graph waits {application.latency_ms:.4g} ms"
    found = [f"the measured figure is the GPU time in a CUDA graph, {graph_ms:.4g} ms; {waits}"]
    if application.enqueue_ms > ENQUEUE_BOUND * application.compute_ms:
        found.append(
            f"the host needs {application.enqueue_ms:.4g} ms to enqueue what the GPU does in "
            f"{application.compute_ms:.4g} ms: it is the limit; use a CUDA graph, or fewer layers"
        )
    share = sum(x.ms for x in groups["reformat"]) / total
    if share >= MANY_REFORMATS:
        count = len(groups["reformat"])
        found.append(f"{count} reformats take {share:.0%}: fewer borders between precisions avoid them")
    return TimeBreakdown(title=title, parts=tuple(parts), remarks=(*found, *remarks, WITHOUT_CAMERA))


def _longest(layers: Sequence[LayerTiming]) -> str:
    longest = max(layers, key=lambda layer: layer.ms)
    name = longest.name if len(longest.name) <= 60 else f"{longest.name[:57]}..."
    return f"{len(layers)}; longest {name}"
