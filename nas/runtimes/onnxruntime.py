"""ONNX Runtime on the CPU: https://onnxruntime.ai/docs/performance/tune-performance/threading.html.

Input and output stay bound to buffers that are allocated once (`bound_run`), which saves 3 to 5 us of a 40 us net.
Threads spin only where there are several: one has nobody to wait for, and several that sleep are slower than one.
"""

import platform
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from nas.errors import MeasureError
from nas.runtimes._base import Floats, Runtime, Session

PROVIDER = "CPUExecutionProvider"
BATCH = 256


class OnnxRuntimeSession(Session):
    """One file on the CPU provider. Its input is float32 [N, C, H, W], its first output [N, K]."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session: ort.InferenceSession | None = session

    def predict(self, images: npt.NDArray[np.uint8]) -> Floats:
        """Class probabilities [N, K] of images [N, C, H, W], run in batches as large as the file allows."""
        session = self._open()
        entry = session.get_inputs()[0]
        batch = entry.shape[0] if isinstance(entry.shape[0], int) else BATCH
        parts = [
            session.run(None, {entry.name: images[i : i + batch].astype(np.float32)})[0]
            for i in range(0, len(images), batch)
        ]
        return np.concatenate(parts).astype(np.float32, copy=False)

    def bound_run(self, images: npt.NDArray[np.uint8]) -> Callable[[], None]:
        """A call that runs the file once on these images.

        Raises:
            MeasureError: the images do not fit the file's input.
        """
        session = self._open()
        entry, output = session.get_inputs()[0], session.get_outputs()[0]
        value = np.ascontiguousarray(images, dtype=np.float32)
        try:
            result = session.run([output.name], {entry.name: value})[0]
        except Exception as error:  # onnxruntime's exceptions share no base but Exception
            raise MeasureError(
                f"images must fit the input {entry.shape} of the file, but got {list(images.shape)}: {_line(error)}"
            ) from error
        binding = session.io_binding()
        binding.bind_ortvalue_input(entry.name, ort.OrtValue.ortvalue_from_numpy(value))
        binding.bind_ortvalue_output(output.name, ort.OrtValue.ortvalue_from_numpy(result))
        return lambda: session.run_with_iobinding(binding)

    def close(self) -> None:
        """Release the file and its threads. Calls handed out by `bound_run` must be dropped too."""
        self._session = None

    def _open(self) -> ort.InferenceSession:
        if self._session is None:
            raise MeasureError("a session must be open, but this one was closed; load the file again")
        return self._session


class OnnxRuntime(Runtime):
    """Runs a file on this machine's CPU. Never falls back to another provider in silence."""

    name = "onnxruntime"

    def missing(self) -> str | None:
        """None: the package is a dependency and its CPU provider is always there."""
        return None

    def versions(self) -> dict[str, str]:
        """ONNX Runtime, and the machine's kind."""
        return {"onnxruntime": str(ort.__version__), "machine": platform.machine()}

    def load(self, model: Path, *, threads: int = 1) -> OnnxRuntimeSession:
        """Load a file for `threads` threads inside an operator, and one operator at a time.

        Raises:
            MeasureError: the file is refused, or another provider than the CPU would run it.
        """
        try:
            session = ort.InferenceSession(str(model), sess_options=_options(threads), providers=[PROVIDER])
        except Exception as error:  # onnxruntime's exceptions share no base but Exception
            raise MeasureError(f"{model} must be an ONNX file that ONNX Runtime loads: {_line(error)}") from error
        if session.get_providers()[0] != PROVIDER:
            raise MeasureError(f"{model} must run on {PROVIDER}, but got {session.get_providers()[0]}")
        return OnnxRuntimeSession(session)


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if threads > 1 else "0")
    return options


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


RUNTIME = OnnxRuntime()
