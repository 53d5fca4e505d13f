"""ONNX Runtime on the CPU: https://onnxruntime.ai/docs/performance/tune-performance/threading.html.

Input and output stay bound to buffers that are allocated once (`bound_run`), which saves 3 to 5 us of a 40 us net.
Threads spin only where there are several: one has nobody to wait for, and several that sleep are slower than one.
"""

import platform
from pathlib import Path

import onnxruntime as ort

from nas.runtimes.base import Layer, Runtime, Step
from nas.runtimes.ort import profiling as _ort_steps
from nas.runtimes.ort import session as _ort_session
from nas.runtimes.ort.session import CPU, OrtSession, cpu_options


class OnnxRuntime(Runtime):
    """Runs a file on this machine's CPU. Never falls back to another provider in silence."""

    name = "onnxruntime"

    def missing(self) -> str | None:
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
        return OrtSession(_ort_session.load(model, cpu_options(threads), CPU))

    def layer_times(self, model: Path, *, input_shape: tuple[int, int, int]) -> tuple[Layer, ...]:
        """Milliseconds of each node that is executed, by ONNX Runtime's own profiler on one thread.

        Raises:
            MeasureError: the file is refused.
        """
        return _ort_session.layers(_ort_session.profiled(model, cpu_options(1), CPU, input_shape))

    def executed(self, model: Path, *, input_shape: tuple[int, int, int]) -> tuple[Step, ...] | None:
        """What ONNX Runtime makes of a file on this machine's processor: blocked layouts, reorders, integer kernels.

        Raises:
            MeasureError: the file is refused.
        """
        return _ort_steps.executed(model, input_shape)


RUNTIME = OnnxRuntime()
