"""Order of the calls to TensorRT and CUDA, on stand-ins for both; no engine is built in these tests."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper, save

from hw_profiles._base import HardwareProfile
from nas.errors import MeasureError
from nas.runtimes.backends import onnxruntime, tensorrt
from nas.runtimes.backends.tensorrt import TensorRtRuntime
from nas.runtimes.base import DeviceTiming
from nas.runtimes.reference_network import INPUT_SHAPE, reference_path
from nas.runtimes.tensorrt import cuda as _cuda
from nas.targets.catalog import load_target
from tests.runtimes.stand_in_tensorrt import PlayedCuda, package
from tests.runtimes.tensorrt.test_sparsity import graph_of, sparse
from tests.runtimes.tensorrt.test_trtexec import a_file

HERE: HardwareProfile = replace(load_target("jetson-orin-nano"), runtime="tensorrt", local=True)


@pytest.fixture(params=["8.6.1", "10.3.0", "11.4.0.106"])
def trt(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    return played(request.param, monkeypatch)


def played(version: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    memory: dict[int, np.ndarray] = {}
    found = package(version, memory)
    found.devices = []

    def cuda() -> PlayedCuda:
        found.devices.append(PlayedCuda(memory))
        return found.devices[-1]

    monkeypatch.setitem(sys.modules, "tensorrt", found)
    monkeypatch.setattr(_cuda, "open_cuda_device", cuda)
    for name, count in {"RUNS": 50, "REFERENCE_RUNS": 10, "WARM_UP_RUNS": 3}.items():
        monkeypatch.setattr(tensorrt, name, count)
    return found


def test_an_engine_computes_the_same_as_the_file(trt: Any) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, *INPUT_SHAPE), dtype=np.uint8)
    session = TensorRtRuntime().load(reference_path())
    np.testing.assert_array_equal(session.predict(images), onnxruntime.RUNTIME.load(reference_path()).predict(images))
    session.close()
    assert all(device.closed for device in trt.devices)
    with pytest.raises(MeasureError, match="must be open"):
        session.predict(images)


def test_files_are_timed_as_graphs_between_two_timings_of_the_reference(trt: Any) -> None:
    (found,) = TensorRtRuntime().time_models([reference_path()], HERE, with_layers=True)
    assert isinstance(found, DeviceTiming)
    assert (len(found.times_ms), found.drift, found.device) == (50, 0.0, "stand-in GPU")
    assert sum(device.captures for device in trt.devices) == 3  # before, the file, after
    assert len(trt.done["built"]) == 2
    assert set(trt.done["levels"]) == {3}
    assert [layer.name for layer in found.layers] == ["stem [Half]", "head [type unknown]"]
    assert found.layers[0].ms == pytest.approx(0.02)
    assert found.versions["typing"] == ("weak" if trt.__version__.startswith("8") else "strong")


def test_without_strong_typing_the_types_of_the_file_are_allowed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trt = played("8.6.1", monkeypatch)
    TensorRtRuntime().load(a_file(tmp_path / "mixed.onnx", batch=1))
    assert trt.done["flags"] == ["FP16", "INT8"]


def test_sparse_weights_are_allowed_where_the_file_has_2_4_zeros(trt: Any, tmp_path: Path) -> None:
    graph = graph_of(sparse((4, 8, 1, 1)))
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    TensorRtRuntime().load(tmp_path / "m.onnx")
    assert "SPARSE_WEIGHTS" in trt.done["flags"]
    trt.done["flags"].clear()
    TensorRtRuntime().load(reference_path())
    assert "SPARSE_WEIGHTS" not in trt.done["flags"]


def test_an_engine_of_a_batch_is_timed_on_the_batch(trt: Any) -> None:
    (found,) = TensorRtRuntime().time_models([reference_path()], HERE, batch=8)
    assert isinstance(found, DeviceTiming)
    assert found.notes[0].startswith("GPU time of 8 images in a CUDA graph")


def test_the_timing_cache_is_passed_to_the_next_build(trt: Any) -> None:
    runtime = TensorRtRuntime()
    runtime.load(reference_path())
    runtime.load(reference_path())
    assert runtime._timing_cache.content == b"++"


def test_a_file_that_fails_does_not_affect_the_others(trt: Any, tmp_path: Path) -> None:
    bad, unbuildable = tmp_path / "bad.onnx", tmp_path / "unbuildable.onnx"
    bad.write_bytes(reference_path().read_bytes().replace(b"GlobalAveragePool", b"GlobalAverageXool"))
    unbuildable.write_bytes(reference_path().read_bytes())
    first, second, third = TensorRtRuntime().time_models([bad, unbuildable, reference_path()], HERE)
    assert str(first) == "'bad.onnx' must be a file that TensorRT parses: no parser for it"
    assert "builds an engine of" in str(second)
    assert isinstance(third, DeviceTiming)
    assert all(device.closed for device in trt.devices)


@pytest.mark.parametrize("shape", [(2, *INPUT_SHAPE), (1, 1, 4, 4)])
def test_images_of_another_shape_are_refused(trt: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(MeasureError, match="images must fit the input"):
        TensorRtRuntime().load(reference_path()).bound_run(np.zeros(shape, np.uint8))


def test_an_old_or_missing_package_is_reported_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    played("8.5.2", monkeypatch)
    assert "must be 8.6 or newer, but is 8.5.2" in (TensorRtRuntime().unavailable_reason() or "")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert "pip install 'fer-nas[tensorrt]'" in (TensorRtRuntime().unavailable_reason() or "")
    with pytest.raises(MeasureError, match="cannot be measured: the package tensorrt must be installed"):
        TensorRtRuntime().time_models([reference_path()], HERE)


def test_without_any_cuda_package_both_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pycuda", "pycuda.driver", "cuda", "cuda.bindings"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MeasureError, match=r"pip install pycuda .*pip install cuda-python"):
        _cuda.open_cuda_device()


def test_only_this_machine_is_timed() -> None:
    assert TensorRtRuntime().can_time_on_device(HERE)
    assert not TensorRtRuntime().can_time_on_device(load_target("jetson"))
