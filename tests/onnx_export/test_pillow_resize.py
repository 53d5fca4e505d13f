"""Resize inside a graph against Pillow itself, byte by byte, and the bounds beyond which it is not exact."""

from functools import cache

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from PIL import Image

from nas.input_form import max_side
from nas.onnx_export.graph_builder import GraphBuilder
from nas.onnx_export.pillow_resize import MAX_EXACT_REDUCTION, add_pillow_resize

Pixels = npt.NDArray[np.uint8]


@cache
def session(height: int, width: int, longest: int = 4096) -> ort.InferenceSession:
    builder = GraphBuilder()
    name = add_pillow_resize(builder, "x", "y", size=(height, width), max_side=longest)
    graph = helper.make_graph(
        builder.nodes, "resize",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", "C", "h", "w"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", "C", height, width])],
        list(builder.initializers.values()),
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def resized(pixels: Pixels, height: int, width: int) -> npt.NDArray[np.float32]:
    """[H, W] of a picture [h, w], by the graph."""
    return session(height, width).run(None, {"x": pixels[None, None].astype(np.float32)})[0][0, 0]


def by_pillow(pixels: Pixels, height: int, width: int) -> Pixels:
    """The same by Pillow, one pass after the other: newer versions would begin with the height of tall pictures."""
    image = Image.fromarray(pixels)
    narrow = image.resize((width, image.height), Image.Resampling.BILINEAR)
    return np.asarray(narrow.resize((width, height), Image.Resampling.BILINEAR))


@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(st.integers(1, 9 * MAX_EXACT_REDUCTION), st.integers(1, 9 * MAX_EXACT_REDUCTION)),
    target=st.sampled_from([(9, 9), (12, 10), (48, 48)]), seed=st.integers(0, 2**16),
)  # fmt: skip
@example(size=(1, 1), target=(48, 48), seed=0)
@example(size=(96, 72), target=(48, 48), seed=0)  # averages halfway between two levels
@example(size=(9 * MAX_EXACT_REDUCTION, 9 * MAX_EXACT_REDUCTION), target=(9, 9), seed=0)
def test_every_byte_is_pillows(size: tuple[int, int], target: tuple[int, int], seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    np.testing.assert_array_equal(resized(pixels, *target), by_pillow(pixels, *target))


@pytest.mark.parametrize("value", [0, 255])
def test_white_and_black_stay_so(value: int) -> None:
    np.testing.assert_array_equal(resized(np.full((97, 201), value, np.uint8), 48, 48), value)


def test_beyond_the_exact_reduction_a_byte_differs_by_one_at_most() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, max_side(9)), dtype=np.uint8)
    assert max_side(9) > 200 * 9
    assert np.abs(resized(pixels, 9, 9) - by_pillow(pixels, 9, 9)).max() <= 1


def test_a_side_beyond_the_limit_gives_nan() -> None:
    run = session(8, 8, 40)
    assert np.isfinite(run.run(None, {"x": np.zeros((1, 1, 40, 40), np.float32)})[0]).all()
    for size in ((41, 8), (8, 41)):
        assert np.isnan(run.run(None, {"x": np.zeros((1, 1, *size), np.float32)})[0]).all()


def test_several_pictures_and_channels_are_resized_alike() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 30, 41), dtype=np.uint8)
    got = session(9, 9).run(None, {"x": pixels.astype(np.float32)})[0]
    for n, c in np.ndindex(2, 3):
        np.testing.assert_array_equal(got[n, c], by_pillow(pixels[n, c], 9, 9))
