"""Sessions of foreign files: inputs of other types than FP32, and several outputs."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, save

from nas.errors import MeasureError
from nas.registry import load
from nas.runtimes.base import Runtime
from nas.runtimes.ort.session import CPU_PROVIDER, run_profiled, session_options

RUNTIME: Runtime = load("runtime", "onnxruntime")


def two_outputs(path: Path, kind: int) -> Path:
    """y [N, 4] = each pixel as FP32, and z [N, 1, 2, 2] = its square."""
    nodes = [
        helper.make_node("Cast", ["x"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["real"], ["y"]),
        helper.make_node("Mul", ["real", "real"], ["z"]),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", kind, ["N", 1, 2, 2])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("y", "z")],
    )  # fmt: skip
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("kind", ["FLOAT", "FLOAT16", "DOUBLE", "UINT8", "UINT16", "INT16", "INT32", "INT64"])
def test_pixels_arrive_in_any_type_that_holds_them(tmp_path: Path, kind: str) -> None:
    model = two_outputs(tmp_path / "m.onnx", getattr(TensorProto, kind))
    images = np.array([0, 1, 128, 255], np.uint8).reshape(1, 1, 2, 2)
    session = RUNTIME.load(model)
    assert session.predict(images).tolist() == [[0.0, 1.0, 128.0, 255.0]]
    run = session.bound_run(images)
    run()
    session.close()
    assert run_profiled(model, session_options(1), CPU_PROVIDER, (1, 2, 2), runs=1)


@pytest.mark.parametrize("kind", ["INT8", "BOOL"])
def test_a_type_that_does_not_hold_pixels_is_refused(tmp_path: Path, kind: str) -> None:
    session = RUNTIME.load(two_outputs(tmp_path / "m.onnx", getattr(TensorProto, kind)))
    images = np.zeros((1, 1, 2, 2), np.uint8)
    for call in (session.predict, session.bound_run):
        with pytest.raises(MeasureError, match=r"input 'x' must take numbers such as .*, but takes tensor"):
            call(images)
    session.close()
