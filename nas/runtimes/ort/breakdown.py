"""Breakdown of ONNX Runtime's time on the CPU, by its own profiler: operators, changes of layout, and what is between.

The profiler writes an event for each executed node and two for each run: `SequentialExecutor::Execute` around the
nodes, and `model_run` around that. It lengthens short nodes, so shares are more exact than milliseconds.
https://onnxruntime.ai/docs/performance/tune-performance/profiling-tools.html
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from nas.errors import MeasureError
from nas.runtimes.time_breakdown import WITHOUT_CAMERA, TimeBreakdown, TimePart

LAYOUT_OPS = frozenset({"ReorderInput", "ReorderOutput", "Transpose"})
"""Operators that only change the order in memory; the first two belong to convolutions in blocks of channels."""
PRECISION_OPS = frozenset({"Cast", "QuantizeLinear", "DequantizeLinear"})
"""Operators that only change the type of numbers."""
LARGE_SHARE = 0.1
"""Share of the whole from which layout, precision or the time between nodes is worth a remark."""
_EXECUTOR, _RUN = "SequentialExecutor::Execute", "model_run"


def breakdown_of(events: Sequence[dict[str, Any]], *, title: str) -> TimeBreakdown:
    """The breakdown of some profiled runs of one file: medians over the runs.

    Args:
        events: of ONNX Runtime's profiler, in order.
        title: what was timed.

    Raises:
        MeasureError: the profile has no complete run.
    """
    runs = _split_runs(events)
    if not runs:
        raise MeasureError("ONNX Runtime's profile must hold a complete run, but holds none; measure without --explain")
    by_op: dict[str, list[float]] = defaultdict(lambda: [0.0] * len(runs))
    counts: Counter[str] = Counter()
    for at, run in enumerate(runs):
        for op, us in run.nodes:
            by_op[op][at] += us
            counts[op] += at == 0
    parts = [
        TimePart(name=op, ms=float(np.median(us)) / 1e3, detail=f"{counts[op]} node{'s' if counts[op] != 1 else ''}")
        for op, us in by_op.items()
    ]
    parts.sort(key=lambda part: -part.ms)
    between = float(np.median([run.executor_us - sum(us for _, us in run.nodes) for run in runs])) / 1e3
    around = float(np.median([run.total_us - run.executor_us for run in runs])) / 1e3
    gaps = TimePart(name="between nodes", ms=max(0.0, between), detail="scheduling, memory, and the profiler itself")
    call = TimePart(name="around the nodes", ms=max(0.0, around), detail="checks of the call, inputs and outputs")
    whole = TimeBreakdown(title=title, parts=(*parts, gaps, call))
    return TimeBreakdown(title=title, parts=whole.parts, remarks=_remarks(whole, len(runs)))


class _Run:
    """One run: microseconds of its nodes by operator, of the executor, and in all."""

    def __init__(self) -> None:
        self.nodes: list[tuple[str, float]] = []
        self.executor_us = self.total_us = 0.0


def _split_runs(events: Sequence[dict[str, Any]]) -> list[_Run]:
    """The runs of a profile: nodes come first, then the executor's event, then that of the run."""
    runs, run = [], _Run()
    for event in sorted(events, key=lambda e: float(e.get("ts", 0)) + float(e.get("dur", 0))):
        name, us = str(event.get("name", "")), float(event.get("dur", 0))
        if event.get("cat") == "Node" and name.endswith("_kernel_time"):
            run.nodes.append((str(event.get("args", {}).get("op_name", "unknown")), us))
        elif name == _EXECUTOR:
            run.executor_us = us
        elif name == _RUN:
            run.total_us = us
            if run.executor_us and run.nodes:
                runs.append(run)
            run = _Run()
    return runs


def _remarks(whole: TimeBreakdown, n_runs: int) -> tuple[str, ...]:
    total = whole.total_ms or 1.0
    found = [f"median of {n_runs} runs under ONNX Runtime's profiler, which lengthens short nodes: trust the shares"]
    for ops, what, advice in (
        (LAYOUT_OPS, "changes of layout", "channels in multiples of the block of this processor avoid them"),
        (PRECISION_OPS, "changes of precision", "fewer borders between INT8 and floating point avoid them"),
    ):
        parts = [part for part in whole.parts if part.name in ops]
        share = sum(part.ms for part in parts) / total
        if parts:
            names = ", ".join(f"{part.name} {part.ms / total:.0%}" for part in parts)
            found.append(f"{what}: {share:.0%} ({names})" + (f"; {advice}" if share >= LARGE_SHARE else ""))
    outside = sum(part.ms for part in whole.parts[-2:]) / total
    if outside >= LARGE_SHARE:
        found.append(f"{outside:.0%} is outside all nodes: fewer and larger nodes gain more here than fewer operations")
    return (*found, WITHOUT_CAMERA)
