"""ONNX Runtime on the CPU: https://onnxruntime.ai/docs/performance/tune-performance/threading.html.

Input and output stay bound to buffers that are allocated once (`bound_run`), which saves 3 to 5 us of a 40 us net.
Threads spin only where there are several: a single one waits for nobody, and several that sleep are slower than one.
"""

import platform
from pathlib import Path

import onnxruntime as ort

from nas.runtimes.base import ExecutedNode, LayerTiming, Runtime
from nas.runtimes.ort import profiling as _profiling
from nas.runtimes.ort import session as _ort_session
from nas.runtimes.ort.breakdown import breakdown_of
from nas.runtimes.ort.session import CPU_PROVIDER, OrtSession, session_options
from nas.runtimes.time_breakdown import TimeBreakdown

BREAKDOWN_RUNS = 50
"""Runs under the profiler for a breakdown, whose medians are taken; ONNX Runtime keeps a million events."""


class OrtCpuRuntime(Runtime):
    """Runs files on this machine's CPU, and on no other provider."""

    name = "onnxruntime"

    def unavailable_reason(self) -> str | None:
        """None: the package is a dependency, and its CPU provider is always present."""
        return None

    def versions(self) -> dict[str, str]:
        """Version of ONNX Runtime, and the architecture of the machine."""
        return {"onnxruntime": str(ort.__version__), "machine": platform.machine()}

    def load(self, model: Path, *, threads: int = 1) -> OrtSession:
        """Load a file for `threads` threads inside an operator, and one operator at a time.

        Raises:
            MeasureError: ONNX Runtime refuses the file, or another provider would run it.
        """
        return OrtSession(_ort_session.create_session(model, session_options(threads), CPU_PROVIDER))

    def layer_times(self, model: Path, *, input_shape: tuple[int, int, int]) -> tuple[LayerTiming, ...]:
        """Milliseconds of each executed node, by ONNX Runtime's own profiler on one thread.

        Raises:
            MeasureError: ONNX Runtime refuses the file.
        """
        return _ort_session.layer_times(_ort_session.run_profiled(model, session_options(1), CPU_PROVIDER, input_shape))

    def time_breakdown(self, model: Path, *, input_shape: tuple[int, int, int]) -> TimeBreakdown:
        """Operators, changes of layout and of precision, and the time between nodes, on one thread.

        Raises:
            MeasureError: ONNX Runtime refuses the file.
        """
        events = _ort_session.run_profiled(model, session_options(1), CPU_PROVIDER, input_shape, runs=BREAKDOWN_RUNS)
        return breakdown_of(events, title=f"{model.name} by ONNX Runtime on this machine's CPU, one thread")

    def executed_nodes(self, model: Path, *, input_shape: tuple[int, int, int]) -> tuple[ExecutedNode, ...] | None:
        """Nodes as ONNX Runtime executes them on this processor: blocked layouts, reorders, integer kernels.

        Raises:
            MeasureError: ONNX Runtime refuses the file.
        """
        return _profiling.executed_nodes(model, input_shape)


RUNTIME = OrtCpuRuntime()
