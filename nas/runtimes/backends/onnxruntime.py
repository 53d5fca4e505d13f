"""ONNX Runtime on the CPU: https://onnxruntime.ai/docs/performance/tune-performance/threading.html.

Input and output stay bound to buffers that are allocated once (`bound_run`), which saves 3 to 5 us of a 40 us net.
Threads spin only where there are several: one has nobody to wait for, and several that sleep are slower than one.
"""

import platform
from pathlib import Path

import onnxruntime as ort

from nas.runtimes.base import ExecutedNode, LayerTiming, Runtime
from nas.runtimes.ort import profiling as _ort_steps
from nas.runtimes.ort import session as _ort_session
from nas.runtimes.ort.session import CPU_PROVIDER, OrtSession, session_options


class OrtCpuRuntime(Runtime):
    """Runs a file on this machine's CPU. Never falls back to another provider in silence."""

    name = "onnxruntime"

    def unavailable_reason(self) -> str | None:
        """None: the package is a dependency and its CPU provider is always there."""
        return None

    def versions(self) -> dict[str, str]:
        """ONNX Runtime, and the machine's kind."""
        return {"onnxruntime": str(ort.__version__), "machine": platform.machine()}

    def load(self, model: Path, *, threads: int = 1) -> OrtSession:
        """Load a file for `threads` threads inside an operator, and one operator at a time.

        Raises:
            MeasureError: the file is refused, or another provider than the CPU would run it.
        """
        return OrtSession(_ort_session.create_session(model, session_options(threads), CPU_PROVIDER))

    def layer_times(self, model: Path, *, input_shape: tuple[int, int, int]) -> tuple[LayerTiming, ...]:
        """Milliseconds of each node that is executed, by ONNX Runtime's own profiler on one thread.

        Raises:
            MeasureError: the file is refused.
        """
        return _ort_session.layer_times(_ort_session.run_profiled(model, session_options(1), CPU_PROVIDER, input_shape))

    def executed_nodes(self, model: Path, *, input_shape: tuple[int, int, int]) -> tuple[ExecutedNode, ...] | None:
        """What ONNX Runtime makes of a file on this machine's processor: blocked layouts, reorders, integer kernels.

        Raises:
            MeasureError: the file is refused.
        """
        return _ort_steps.executed_nodes(model, input_shape)


RUNTIME = OrtCpuRuntime()
