"""Inputs of hand-made files, and the bounds that a file of unknown origin must keep."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper, save, save_model

from nas.input_form import WORDS, requested_form
from nas.onnx_export.input_rewrite import with_input_form
from nas.runtimes.onnx_input import (
    MAX_NODES,
    check_bounds,
    external_files,
    load_external_weights,
    read_onnx_input,
    read_onnx_model,
)
from tests.fake_models import a_classifier


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
        ([[8, 1, 4, 4]], (8, 1, 4, 4), False),
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


def relu_model(
    size: list[int | str], *, kind: int = TensorProto.FLOAT, nodes: int = 1, weight: np.ndarray | None = None
) -> ModelProto:
    """x [N, C, H, W] through Relu nodes, plus a weight w that the graph's inputs list too."""
    inputs = [helper.make_tensor_value_info("x", kind, size)]
    chain = [helper.make_node("Relu", [f"r{i}" if i else "x"], [f"r{i + 1}"]) for i in range(nodes)]
    last = f"r{nodes}"
    initializers = []
    if weight is not None:
        initializers = [numpy_helper.from_array(weight, "w")]
        inputs.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, weight.shape))
        chain.append(helper.make_node("Mul", [last, "w"], ["y"]))
        last = "y"
    graph = helper.make_graph(chain, "g", inputs, [helper.make_tensor_value_info(last, kind, None)], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 8)], ir_version=3)


def test_weights_among_the_inputs_are_no_inputs(tmp_path: Path) -> None:
    model = relu_model(["N", 1, 4, 4], weight=np.ones((1, 1, 4, 4), np.float32))
    model.graph.input.insert(0, model.graph.input.pop())  # the weight comes first
    save(model, tmp_path / "m.onnx")
    entry = read_onnx_input(tmp_path / "m.onnx")
    assert (entry.names, entry.dims, entry.is_single_image) == (("x",), (0, 1, 4, 4), True)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.UINT8])
def test_the_type_of_the_input_is_read(tmp_path: Path, kind: int) -> None:
    save(relu_model([1, 1, 4, 4], kind=kind), tmp_path / "m.onnx")
    assert read_onnx_input(tmp_path / "m.onnx").element_type == kind


def with_value_info(model: ModelProto, dims: list[int]) -> ModelProto:
    model.graph.value_info.append(helper.make_tensor_value_info("r1", TensorProto.FLOAT, dims))
    return model


def with_weight_dims(dims: list[int]) -> ModelProto:
    model = relu_model([1, 1, 4, 4])
    model.graph.initializer.append(TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims))
    return model


def with_branch(inner: ModelProto) -> ModelProto:
    """The inner model as a branch of an If node."""
    model = relu_model([1, 1, 4, 4])
    model.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=inner.graph, else_branch=inner.graph))
    return model


def nested(depth: int) -> ModelProto:
    model = relu_model([1, 1, 4, 4])
    for _ in range(depth):
        model = with_branch(model)
    return model


def with_constant(dims: list[int]) -> ModelProto:
    model = relu_model([1, 1, 4, 4])
    tensor = TensorProto(data_type=TensorProto.FLOAT, dims=dims)
    model.graph.node.append(helper.make_node("Constant", [], ["k"], value=tensor))
    return model


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: relu_model([-1, 1, 4, 4]), "'x' has a dimension of -1"),
        (lambda: relu_model([1, 1, 2**62, 4]), "'x' has a dimension of 4611686018427387904"),
        (lambda: relu_model([1, 2**21, 2**21, 2**21]), "has 9223372036854775808 elements"),
        (lambda: relu_model([10**6, 1, 48, 48]), "'x' has 2304000000 elements, more than 67108864"),
        (lambda: with_value_info(relu_model([1, 1, 4, 4]), [1, -5]), "'r1' has a dimension of -5"),
        (lambda: with_weight_dims([-3]), "'w' has a dimension of -3"),
        (lambda: with_weight_dims([2**31 - 1, 2**31 - 1]), "'w' has .* elements"),
        (lambda: with_constant([2**40]), "'' has a dimension of 1099511627776"),
        (lambda: with_branch(with_weight_dims([-3])), "'w' has a dimension of -3"),
        (lambda: with_branch(relu_model([1, -7, 4, 4])), "'x' has a dimension of -7"),
        (lambda: relu_model([1, 1, 4, 4], nodes=20_000), f"it has 20000 nodes, more than {MAX_NODES}"),
        (lambda: with_branch(relu_model([1, 1, 4, 4], nodes=6_000)), "it has 12002 nodes"),
        (lambda: nested(12), "it has [0-9]+ nodes"),
        (ModelProto, "it has no graph"),
    ],
)  # fmt: skip
def test_files_beyond_a_bound_are_refused(make: Callable[[], ModelProto], reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        check_bounds(make())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"it is empty \(0 bytes\)"),
        (b"no model", "parsing"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\x08\x08", "it has no graph"),
    ],
)
def test_files_that_are_no_models_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        read_onnx_input(tmp_path / "m.onnx")


def test_pipes_and_folders_are_refused_without_being_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(ValueError, match="no regular file"):
            read_onnx_input(path)


def save_external(folder: Path, location: str = "w.data") -> Path:
    model = relu_model([1, 1, 8, 8], weight=np.arange(64, dtype=np.float32).reshape(1, 1, 8, 8))
    save_model(model, folder / "m.onnx", save_as_external_data=True, location="w.data", size_threshold=0)
    if location != "w.data":
        model = read_onnx_model(folder / "m.onnx")
        next(e for e in model.graph.initializer[0].external_data if e.key == "location").value = location
        (folder / "m.onnx").write_bytes(model.SerializeToString())
    return folder / "m.onnx"


def test_weights_outside_the_file_are_named_and_loaded(tmp_path: Path) -> None:
    path = save_external(tmp_path)
    assert read_onnx_input(path).external_files == ("w.data",)
    model = read_onnx_model(path)
    load_external_weights(model, tmp_path)
    assert numpy_helper.to_array(model.graph.initializer[0]).ravel().tolist() == list(range(64))
    (tmp_path / "w.data").unlink()
    with pytest.raises(ValueError, match=r"weights are in .*w\.data, which does not exist"):
        load_external_weights(read_onnx_model(path), tmp_path)


@pytest.mark.parametrize("location", ["../w.data", "/etc/passwd", "a/../../w.data"])
def test_weights_outside_the_folder_are_refused(tmp_path: Path, location: str) -> None:
    with pytest.raises(ValueError, match="must be in files of its own folder"):
        external_files(read_onnx_model(save_external(tmp_path, location)))


def test_an_input_form_is_read_from_the_metadata_or_from_the_dimensions(tmp_path: Path) -> None:
    plain = a_classifier(tmp_path / "plain.onnx", shape=(1, 8, 6))
    derived = read_onnx_input(plain)
    assert derived.stated_form is None
    assert derived.picture_form == requested_form([], (1, 8, 6))
    changed = tmp_path / "changed.onnx"
    form = requested_form(WORDS, (1, 8, 6))
    save_model(with_input_form(read_onnx_model(plain), form), changed)
    entry = read_onnx_input(changed)
    assert entry.picture_form == entry.stated_form == form
    assert (entry.dims, entry.image_dims, entry.is_single_image) == ((0, 0, 0, 3), (8, 6, 3), True)
    two = read_onnx_input(a_file(tmp_path / "two.onnx", [1, 1, 4, 4], [1]))
    assert two.picture_form is None


@pytest.mark.parametrize(
    ("words", "fault"), [(("uint8",), "its input is float"), (("nhwc",), "its input is .0, 1, 8, 8")]
)
def test_metadata_that_contradict_the_input_are_refused(tmp_path: Path, words: tuple[str, ...], fault: str) -> None:
    model = read_onnx_model(a_classifier(tmp_path / "m.onnx"))
    model.metadata_props.add(key="input_form", value=requested_form(words, (1, 8, 8)).to_json())
    save_model(model, tmp_path / "m.onnx")
    with pytest.raises(ValueError, match=f"its metadata say that it takes .*{fault}"):
        read_onnx_input(tmp_path / "m.onnx")
