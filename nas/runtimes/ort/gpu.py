"""ONNX Runtime on a GPU: one provider, checked to be the one that runs each node.

Timed by the loop on this machine with images that lie on the GPU: a call and its completion, without copies. Never run
on a GPU for this project; the refusals were tried.
"""

from collections.abc import Mapping
from pathlib import Path

import onnx
import onnxruntime as ort

from nas.errors import MeasureError, one_line
from nas.runtimes.base import LayerTiming, Runtime
from nas.runtimes.ort import session as _ort_session
from nas.runtimes.ort.session import OrtSession


class OrtGpuRuntime(Runtime):
    """One provider of onnxruntime-gpu. A file of which any node would run elsewhere is refused."""

    def __init__(self, *, name: str, provider: str, provider_options: Mapping[str, str], requirement: str) -> None:
        self.name, self._provider, self._provider_options, self._requirement = (
            name,
            provider,
            provider_options,
            requirement,
        )

    def unavailable_reason(self) -> str | None:
        """Where this onnxruntime was built without the provider: what to install."""
        if self._provider in ort.get_available_providers():
            return None
        return f"onnxruntime has no {self._provider} here; for {self._requirement}: pip install onnxruntime-gpu"

    def versions(self) -> dict[str, str]:
        """ONNX Runtime, and what ran below it."""
        return {"onnxruntime": str(ort.__version__), "provider": self._provider}

    def load(self, model: Path, *, threads: int = 1) -> OrtSession:
        """Load a file after a profiled run that shows where its nodes are executed.

        Raises:
            MeasureError: the provider is not there, or any node would run elsewhere.
        """
        events = _ort_session.run_profiled(
            model,
            self._session_options(threads),
            self._provider,
            _read_input_shape(model),
            self._provider_options,
            runs=1,
        )
        _ort_session.check_placement(events, self._provider, model)
        session = _ort_session.create_session(
            model, self._session_options(threads), self._provider, self._provider_options
        )
        return OrtSession(session, device="cuda")

    def layer_times(self, model: Path, *, input_shape: tuple[int, int, int]) -> tuple[LayerTiming, ...]:
        """Milliseconds of each node, by ONNX Runtime's profiler: the launches, where the GPU runs behind them.

        Raises:
            MeasureError: the provider is not there, or the file is refused.
        """
        options = self._session_options(1)
        return _ort_session.layer_times(
            _ort_session.run_profiled(model, options, self._provider, input_shape, self._provider_options)
        )

    def _session_options(self, threads: int) -> ort.SessionOptions:
        options = _ort_session.session_options(threads)
        if self._provider.startswith("Tensorrt"):
            # onnxruntime's own fusions of Q/DQ leave forms that TensorRT cannot build (microsoft/onnxruntime#17312)
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        return options


def _read_input_shape(model: Path) -> tuple[int, ...]:
    try:
        dims = onnx.load(str(model), load_external_data=False).graph.input[0].type.tensor_type.shape.dim
    except Exception as error:  # protobuf's errors share no public base
        raise MeasureError(
            f"{model} must be an ONNX file, but cannot be read: {one_line(error)}"
        ) from error
    return tuple(d.dim_value for d in dims[1:])
