"""Inputs of hand-made files."""

from pathlib import Path

import pytest
from onnx import TensorProto, helper, save

from nas.runtimes.onnx_input import read_onnx_input


def a_file(path: Path, *shapes: list[int | str]) -> Path:
    inputs = [helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, shape) for i, shape in enumerate(shapes)]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    nodes = [helper.make_node("Constant", [], ["y"], value_float=1.0)]
    save(helper.make_model(helper.make_graph(nodes, "g", inputs, [output])), path)
    return path


@pytest.mark.parametrize(
    ("shapes", "dims", "is_single_image"),
    [
        ([["N", 1, 48, 48]], (0, 1, 48, 48), True),
        ([[1, 3, 8, 6]], (1, 3, 8, 6), True),
        ([["N", 1, "H", 48]], (0, 1, 0, 48), False),
        ([[1, 8]], (1, 8), False),
        ([[1, 1, 4, 4], [1]], (1, 1, 4, 4), False),
        ([], (), False),
    ],
)
def test_dimensions_are_read_and_open_ones_are_zero(
    tmp_path: Path, shapes: list[list[int | str]], dims: tuple[int, ...], is_single_image: bool
) -> None:
    entry = read_onnx_input(a_file(tmp_path / "m.onnx", *shapes))
    assert entry.names == tuple(f"x{i}" for i in range(len(shapes)))
    assert (entry.dims, entry.is_single_image) == (dims, is_single_image)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"absent\.onnx"):
        read_onnx_input(tmp_path / "absent.onnx")
