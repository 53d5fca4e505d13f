"""ONNX Runtime on a GPU: one provider, checked to be the one that runs each node.

Files are timed by the loop on this machine with images that lie on the GPU: a call and its completion, without copies.
Never run on a GPU for this project; only the refusals were tested.
"""

from collections.abc import Mapping
from pathlib import Path

import onnxruntime as ort

from nas.errors import MeasureError, one_line
from nas.runtimes.base import LayerTiming, Runtime
from nas.runtimes.onnx_input import read_onnx_input
from nas.runtimes.ort import session as _ort_session
from nas.runtimes.ort.session import OrtSession


class OrtGpuRuntime(Runtime):
    """One provider of onnxruntime-gpu. It refuses a file of which any node would run elsewhere."""

    def __init__(self, *, name: str, provider: str, provider_options: Mapping[str, str], requirement: str) -> None:
        """Describe a provider; nothing is loaded.

        Args:
            name: word of the runtime.
            provider: ONNX Runtime's name of it.
            provider_options: its options.
            requirement: what it needs, in words.
        """
        self.name = name
        self._provider = provider
        self._provider_options = provider_options
        self._requirement = requirement

    def unavailable_reason(self) -> str | None:
        """What to install, where this onnxruntime was built without the provider."""
        if self._provider in ort.get_available_providers():
            return None
        return f"onnxruntime has no {self._provider} here; for {self._requirement}: pip install onnxruntime-gpu"

    def versions(self) -> dict[str, str]:
        """Versions of ONNX Runtime, and the provider."""
        return {"onnxruntime": str(ort.__version__), "provider": self._provider}

    def load(self, model: Path, *, threads: int = 1) -> OrtSession:
        """Load a file, after a profiled run has shown where its nodes are executed.

        Raises:
            MeasureError: the provider is missing, or a node would run elsewhere.
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
        """Milliseconds of each node, by ONNX Runtime's profiler: of its launch only, where the GPU runs asynchronously.

        Raises:
            MeasureError: the provider is missing, or refuses the file.
        """
        options = self._session_options(1)
        return _ort_session.layer_times(
            _ort_session.run_profiled(model, options, self._provider, input_shape, self._provider_options)
        )

    def _session_options(self, threads: int) -> ort.SessionOptions:
        options = _ort_session.session_options(threads)
        if self._provider.startswith("Tensorrt"):
            # ONNX Runtime's own fusions of Q/DQ leave forms that TensorRT cannot build (microsoft/onnxruntime#17312).
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        return options


def _read_input_shape(model: Path) -> tuple[int, ...]:
    """(C, H, W) of the file's input.

    Raises:
        MeasureError: the file cannot be read.
    """
    try:
        return read_onnx_input(model).image_dims
    except Exception as error:  # protobuf's errors share no public base
        raise MeasureError(f"{model} must be an ONNX file, but cannot be read: {one_line(error)}") from error
