"""Files that pass the bounds and still do not run: each costs one line, not the process."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from nas.errors import MeasureError
from nas.runtimes.onnx_trial import check_in_child


def save_model(path: Path, nodes: list, *, size: list[int | str], kind: int = TensorProto.FLOAT, **weights) -> Path:  # type: ignore[no-untyped-def,type-arg]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", kind, size)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )  # fmt: skip
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def growing(path: Path) -> Path:
    """A file of a few bytes that asks for 64 GiB."""
    nodes = [helper.make_node("ConstantOfShape", ["n"], ["big"]), helper.make_node("ReduceSum", ["big"], ["s"])]
    nodes += [helper.make_node("Add", ["x", "s"], ["y"])]
    return save_model(path, nodes, size=[1, 1, 4, 4], n=np.array([2**34], np.int64))


def endless(path: Path) -> Path:
    """A loop of 2^40 steps."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Sin", ["v"], ["v2"])], "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("c2", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v2", TensorProto.FLOAT, None),
        ],
    )  # fmt: skip
    node = helper.make_node("Loop", ["n", "go", "x"], ["y"], body=body)
    return save_model(path, [node], size=[1, 1, 4, 4], n=np.array(2**40, np.int64), go=np.array(True))


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8, TensorProto.INT32])
def test_files_with_any_real_input_pass(tmp_path: Path, kind: int) -> None:
    node = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)
    check_in_child(save_model(tmp_path / "m.onnx", [node], size=["N", 1, 4, 4], kind=kind), input_shape=(1, 1, 4, 4))


def test_a_file_that_needs_too_much_memory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match=r"m\.onnx must ") as caught:
        check_in_child(growing(tmp_path / "m.onnx"), input_shape=(1, 1, 4, 4))
    assert "\n" not in str(caught.value)


def test_a_file_that_runs_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match=r"must load and run once within 5 s, but does not"):
        check_in_child(endless(tmp_path / "m.onnx"), input_shape=(1, 1, 4, 4), time_limit_s=5)


def test_a_child_that_crashes_is_one_line(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    path = save_model(tmp_path / "m.onnx", [node], size=[1, 1, 4, 4])
    with pytest.raises(
        MeasureError, match=r"its trial ended with (signal|status)|must run within 0\.125 GiB, but needs more"
    ) as caught:
        check_in_child(path, input_shape=(1, 1, 4, 4), memory_limit_bytes=2**27)
    assert "\n" not in str(caught.value)


def test_a_file_that_the_runtime_refuses_is_refused(tmp_path: Path) -> None:
    path = save_model(tmp_path / "m.onnx", [helper.make_node("NoSuchOperator", ["x"], ["y"])], size=[1, 1, 4, 4])
    with pytest.raises(MeasureError, match=r"must be an ONNX file that ONNX Runtime loads: .*NoSuchOp"):
        check_in_child(path, input_shape=(1, 1, 4, 4))
    check_in_child(path)  # another runtime may know the operator
