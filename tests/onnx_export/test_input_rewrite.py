"""Rewritten inputs against numpy's and Pillow's arithmetic, and files that cannot be rewritten."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, helper
from PIL import Image

from nas.errors import ExportError
from nas.input_form import InputForm, requested_form
from nas.latency.costs import compute_costs
from nas.onnx_export.input_rewrite import at_network_size, network_shape, picture_model, with_input_form
from tests.fake_models import a_classifier


def run(model: ModelProto, images: Any) -> Any:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": images})[0]


@pytest.fixture
def model(tmp_path: Path) -> ModelProto:
    return onnx.load(a_classifier(tmp_path / "model.onnx"))


def test_grey_is_pillows_for_every_colour_of_a_lattice(model: ModelProto) -> None:
    """Each level of each channel occurs, with the others at random: 8 x 8 pixels a picture."""
    colours = np.random.default_rng(0).integers(0, 256, (3 * 256, 3), dtype=np.uint8)
    for channel in range(3):
        colours[channel * 256 : (channel + 1) * 256, channel] = np.arange(256)
    pictures = colours.reshape(-1, 8, 8, 3)
    grey = np.stack([np.asarray(Image.fromarray(p).convert("L")) for p in pictures])
    for words in (["rgb", "uint8", "nhwc"], ["rgb"]):
        form = requested_form(words, (1, 8, 8))
        seen = run(picture_model(with_input_form(model, form)), form.to_input(pictures.transpose(0, 3, 1, 2)))
        np.testing.assert_array_equal(seen[:, 0], grey)


@pytest.mark.parametrize("words", [["uint8"], ["nhwc"], ["uint8", "nhwc"]])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 6, 8)])
def test_the_network_computes_the_same(tmp_path: Path, words: list[str], shape: tuple[int, int, int]) -> None:
    plain = onnx.load(a_classifier(tmp_path / "m.onnx", shape=shape))
    form = requested_form(words, shape)
    changed = with_input_form(plain, form)
    images = np.random.default_rng(0).integers(0, 256, (5, *shape), dtype=np.uint8)
    given = form.to_input(images)
    assert given.dtype == ("uint8" if "uint8" in words else "float32")
    np.testing.assert_array_equal(run(changed, given), run(plain, images.astype(np.float32)))


def test_metadata_tell_the_form_beside_the_old_ones(model: ModelProto) -> None:
    form = requested_form(["uint8", "any-size"], (1, 8, 8))
    stored = {entry.key: entry.value for entry in with_input_form(model, form).metadata_props}
    assert stored["space"] == "plain"
    assert stored["input"] == f"image: {form.describe()}"
    assert stored["input_form"] == form.to_json()


def test_a_file_of_any_size_has_costs_at_the_size_of_its_network(model: ModelProto) -> None:
    """Beside those of the plain network: two matrices of 8 columns times 16 digits, for one channel of 8 rows each."""
    changed = with_input_form(model, requested_form(["any-size"], (1, 8, 8)))
    extra = compute_costs(changed).macs - compute_costs(model).macs
    assert extra == 2 * 8 * 8 * 16
    fixed = at_network_size(changed)
    assert [d.dim_value for d in fixed.graph.input[0].type.tensor_type.shape.dim] == [0, 1, 8, 8]
    images = np.random.default_rng(0).integers(0, 256, (2, 1, 8, 8)).astype(np.float32)
    np.testing.assert_array_equal(run(fixed, images), run(model, images))
    assert at_network_size(model) is model


def test_the_plain_form_has_no_first_part(model: ModelProto) -> None:
    with pytest.raises(ExportError, match="must have another input form, but has the plain one"):
        picture_model(model)


def as_opset_11(model: ModelProto) -> None:
    model.opset_import[0].version = 11


def with_two_inputs(model: ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("second", 1, [1]))


def with_fixed_batch(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4


def with_branch(model: ModelProto) -> None:
    branch = helper.make_graph([helper.make_node("Identity", ["image"], ["i"])], "b", [], [])
    model.graph.node.append(helper.make_node("If", ["c"], ["o"], then_branch=branch, else_branch=branch))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (as_opset_11, "must have opset 13 or newer, but has 11"),
        (with_two_inputs, "must have one input float32 .* but has 2 inputs"),
        (with_fixed_batch, r"must have one input float32 .* and \[4, 1, 8, 8\]"),
        (with_branch, "must have no graphs inside nodes"),
    ],
)
def test_a_file_that_cannot_be_rewritten_is_refused(model: ModelProto, change: Any, fault: str) -> None:
    change(model)
    with pytest.raises(ExportError, match=fault):
        with_input_form(model, requested_form(["uint8"], (1, 8, 8)))


def test_forms_that_the_network_cannot_take_are_refused(model: ModelProto, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"must take \[1, 9, 9\], but takes \[1, 8, 8\]"):
        with_input_form(model, requested_form(["uint8"], (1, 9, 9)))
    once = with_input_form(model, requested_form(["uint8"], (1, 8, 8)))
    with pytest.raises(ExportError, match="was given another one already"):
        with_input_form(once, requested_form(["nhwc"], (1, 8, 8)))
    two = onnx.load(a_classifier(tmp_path / "two.onnx", shape=(2, 4, 4)))
    with pytest.raises(ExportError, match="must take grey or RGB to be given RGB, but takes 2 channels"):
        with_input_form(two, InputForm(channels=3, size=(4, 4), network=(2, 4, 4)))
    long = onnx.load(a_classifier(tmp_path / "long.onnx", shape=(1, 1, 513)))
    with pytest.raises(ExportError, match=r"sides of at most 512 pixels, but has .*; export without any-size"):
        with_input_form(long, requested_form(["any-size"], (1, 1, 513)))
    assert network_shape(long) == (1, 1, 513)
