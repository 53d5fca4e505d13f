"""No silent fallback: a provider that is missing or runs only a part is refused. These tests need no GPU."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from nas import registry
from nas.errors import MeasureError
from nas.runtimes.base import Runtime
from nas.runtimes.ort import session as _ort_session
from nas.runtimes.ort.gpu import OrtGpuRuntime
from nas.runtimes.ort.session import CPU_PROVIDER, check_placement, run_profiled, session_options
from nas.runtimes.reference_network import INPUT_SHAPE, reference_path

GPU = {"onnxruntime_cuda": "CUDAExecutionProvider", "onnxruntime_tensorrt": "TensorrtExecutionProvider"}
each = pytest.mark.parametrize("word", GPU)
HERE = OrtGpuRuntime(name="here", provider=CPU_PROVIDER, provider_options={}, requirement="nothing")


def runtime(word: str) -> Runtime:
    found: Runtime = registry.load("runtime", word)
    return found


@each
@pytest.mark.skipif(
    "CUDAExecutionProvider" in ort.get_available_providers(), reason="this onnxruntime has GPU providers"
)
def test_a_missing_provider_is_reported_and_never_replaced(word: str) -> None:
    assert "pip install onnxruntime-gpu" in (runtime(word).unavailable_reason() or "")
    with pytest.raises(MeasureError, match=f"must run on {GPU[word]}, but this onnxruntime was built without it"):
        runtime(word).load(reference_path())


@each
def test_a_provider_that_onnxruntime_silently_drops_is_refused(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the provider's library cannot be loaded, onnxruntime warns and hands out a session on the CPU."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: [GPU[word], CPU_PROVIDER])
    real = ort.InferenceSession
    monkeypatch.setattr(
        ort, "InferenceSession", lambda *given, providers, **more: real(*given, providers=[CPU_PROVIDER])
    )
    with pytest.raises(MeasureError, match=f"must run on {GPU[word]}, but ONNX Runtime chose {CPU_PROVIDER}"):
        runtime(word).load(reference_path())


def test_nodes_on_the_cpu_are_found_in_a_real_profile() -> None:
    events = run_profiled(reference_path(), session_options(1), CPU_PROVIDER, INPUT_SHAPE, runs=1)
    check_placement(events, CPU_PROVIDER, reference_path())
    with pytest.raises(MeasureError, match=r"must run on CUDAExecutionProvider, but \d+ of \d+ ran elsewhere"):
        check_placement(events, "CUDAExecutionProvider", reference_path())
    with pytest.raises(MeasureError, match="but none ran"):
        check_placement([], CPU_PROVIDER, reference_path())


def test_a_single_node_elsewhere_is_refused() -> None:
    def node(name: str, provider: str) -> dict[str, object]:
        return {"cat": "Node", "name": f"{name}_kernel_time", "dur": 1, "args": {"provider": provider}}

    events = [
        node("conv", "CUDAExecutionProvider"),
        node("resize", CPU_PROVIDER),
        {"cat": "Session", "name": "run", "dur": 9},
    ]
    with pytest.raises(MeasureError, match=r"1 of 2 ran elsewhere, the first \('resize', 'CPUExecutionProvider'\)"):
        check_placement(events, "CUDAExecutionProvider", Path("net.onnx"))


def test_a_gpu_runtime_loads_a_file_whose_nodes_all_run_on_its_provider() -> None:
    """The whole way of the GPU members, with the CPU as their provider: it is the only one that is everywhere."""
    images = np.random.default_rng(0).integers(0, 256, (3, *INPUT_SHAPE), dtype=np.uint8)
    found, expected = (member.load(reference_path()).predict(images) for member in (HERE, runtime("onnxruntime")))
    np.testing.assert_array_equal(found, expected)


def test_a_gpu_runtime_refuses_a_file_of_which_a_node_ran_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def moved(*given: Any, **more: Any) -> list[dict[str, Any]]:
        events = run_profiled(*given, **more)
        next(event for event in events if event["cat"] == "Node")["args"]["provider"] = "elsewhere"
        return events

    monkeypatch.setattr(_ort_session, "run_profiled", moved)
    with pytest.raises(
        MeasureError, match=rf"must run on {CPU_PROVIDER}, but 1 of \d+ ran elsewhere, .* 'elsewhere'\)"
    ):
        HERE.load(reference_path())


def test_layers_are_the_executed_nodes_after_fusion() -> None:
    member = importlib.import_module("nas.runtimes.backends.onnxruntime")
    layers = member.RUNTIME.layer_times(reference_path(), input_shape=INPUT_SHAPE)
    assert 4 <= len(layers) <= 10  # three convolutions with their ReLUs inside, pool, product, softmax, reorders
    assert sum("Conv" in layer.name for layer in layers) == 3
    assert all(layer.ms >= 0 for layer in layers)
    assert max(layers, key=lambda layer: layer.ms).name.count("Conv") == 1
