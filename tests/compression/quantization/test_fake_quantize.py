"""Fake quantisation against torch's own and against ONNX's reference implementation."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from torch import nn

from nas.compression.quantization.calibration import MSE_CLIP_RATIOS, RangeObserver, observe_ranges
from nas.compression.quantization.fake_quantize import BIAS_QMAX, FakeQuantize, QuantizedLayer
from nas.onnx_export.folding import fold
from nas.onnx_export.graph_builder import GraphBuilder
from nas.onnx_export.onnx_ops import emit
from tests.random_nets import SHAPE, pictures

scales = st.floats(1e-3, 10)
values = st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=40)


@given(scale=scales, zero_point=st.integers(0, 255), xs=values)
def test_rounding_equals_torchs_own(scale: float, zero_point: int, xs: list[float]) -> None:
    x = torch.tensor(xs)
    ours = FakeQuantize(scale=scale, zero_point=zero_point)
    theirs = torch.fake_quantize_per_tensor_affine(x, ours.scale, zero_point, 0, 255)
    # Torch multiplies by 1 / scale: a tie may fall to the other side, by one level.
    assert ((ours(x) - theirs).abs() <= ours.scale * (1 + 1e-4)).all()
    assert ((ours(x) - theirs).abs() > ours.scale * 1e-3).sum() <= max(1, len(xs) // 10)


@given(scale=scales, signed=st.booleans(), xs=values)
def test_rounding_twice_is_rounding_once_and_the_error_is_half_a_level(
    scale: float, signed: bool, xs: list[float]
) -> None:
    grid, x = FakeQuantize(scale=scale, zero_point=0 if signed else 128, signed=signed), torch.tensor(xs)
    once = grid(x)
    assert torch.equal(grid(once), once)
    inside = (x / grid.scale).abs() < 127
    assert ((once - x).abs()[inside] <= grid.scale * 0.5001).all()
    assert grid(torch.zeros(1)).item() == 0, "zero padding must stay exact"


@pytest.mark.parametrize("signed", [False, True])
def test_fake_quantisation_equals_onnxs_reference(signed: bool) -> None:
    grid, writer = FakeQuantize(scale=0.037, zero_point=0 if signed else 93, signed=signed), GraphBuilder()
    output = emit(grid, writer, "grid", ["x"])
    graph = helper.make_graph(
        writer.nodes,
        "grid",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [None])],
        list(writer.initializers.values()),
    )
    x = np.linspace(-8, 12, 4001, dtype=np.float32)
    # The reference has these operators from opset 19 on only; for these types the semantics are the same.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)])
    expected = ReferenceEvaluator(model).run(None, {"x": x})[0]
    np.testing.assert_array_equal(grid(torch.from_numpy(x)).numpy(), expected)


def test_weights_have_one_scale_per_channel_and_biases_lie_on_the_integer_grid() -> None:
    conv = nn.Conv2d(3, 5, 3)
    quantised = QuantizedLayer(conv, input_scale=0.02)
    scale = conv.weight.detach().abs().amax((1, 2, 3)) / 127
    torch.testing.assert_close(quantised.get_buffer("weight_scale"), scale)
    stored = quantised.get_buffer("weight_levels").float() * scale[:, None, None, None]
    assert ((stored - conv.weight).abs() <= scale[:, None, None, None] * 0.5001).all()
    torch.testing.assert_close(quantised.get_buffer("bias_scale"), 0.02 * scale)
    assert conv.bias is not None
    bias = quantised.get_buffer("bias_levels") * quantised.get_buffer("bias_scale")
    assert ((bias - conv.bias).abs() <= 0.02 * scale * 0.5001).all()


def test_a_quantised_layer_computes_from_its_stored_levels() -> None:
    conv, grid = nn.Conv2d(3, 4, 3, stride=2, padding=1), FakeQuantize(scale=0.02, zero_point=128)
    quantised, x = QuantizedLayer(conv, input_scale=grid.scale), grid(torch.randn(2, 3, 9, 9))
    weight = quantised.get_buffer("weight_levels") * quantised.get_buffer("weight_scale")[:, None, None, None]
    bias = quantised.get_buffer("bias_levels") * quantised.get_buffer("bias_scale")
    expected = nn.functional.conv2d(x, weight, bias, stride=2, padding=1)
    torch.testing.assert_close(quantised(x), expected, rtol=1e-4, atol=1e-5)


def test_pixels_around_their_mean_keep_all_their_levels() -> None:
    """On a grid with scale 1.0 they would all lie on ties, and neighbouring values would become one."""
    pixels, seen = torch.arange(256).float() - 127.5, RangeObserver()
    seen.observe(pixels)
    assert len(seen.fake_quantize(signed=False)(pixels).unique()) > 250


def test_a_large_bias_on_tiny_weights_does_not_overflow() -> None:
    linear = nn.Linear(3, 2)
    with torch.no_grad():
        linear.weight.fill_(1e-9)
        linear.bias.copy_(torch.tensor([50.0, -50.0]))
    quantised = QuantizedLayer(linear, input_scale=0.01)
    assert quantised.get_buffer("bias_levels").abs().max() <= BIAS_QMAX
    torch.testing.assert_close(quantised(torch.zeros(1, 3))[0], torch.tensor([50.0, -50.0]))


def test_one_outlier_is_clipped_and_a_flat_distribution_is_not() -> None:
    flat, spiked = RangeObserver(), RangeObserver()
    flat.observe(torch.linspace(0, 1, 4001))
    spiked.observe(torch.cat([torch.linspace(0, 1, 4000).repeat(100), torch.tensor([1.6])]))
    assert flat.fake_quantize(signed=False).scale == pytest.approx(1 / 255)
    assert spiked.fake_quantize(signed=False).scale < 1.6 / 255
    assert 1.0 in MSE_CLIP_RATIOS


@given(low=st.floats(-10, 0), high=st.floats(0.01, 10))
def test_a_grid_covers_its_range_and_holds_zero(low: float, high: float) -> None:
    seen = RangeObserver()
    seen.observe(torch.tensor([low, high]))
    grid = seen.fake_quantize(signed=False)
    ends = [(level - grid.zero_point) * grid.scale for level in (grid.quant_min, grid.quant_max)]
    assert ends[0] <= 0 <= ends[1]
    if grid.scale == pytest.approx((high - low) / 255):
        assert ends == pytest.approx([low, high], abs=grid.scale)
    signed = seen.fake_quantize(signed=True)
    assert (signed.zero_point, signed.signed) == (0, True)


def test_merged_ranges_cover_both() -> None:
    a, b = RangeObserver(), RangeObserver()
    a.observe(torch.tensor([-1.0, 2.0]))
    b.observe(torch.tensor([0.0, 5.0]))
    joined = a.merge(b)
    assert (joined.min_value, joined.max_value, len(joined.samples)) == (-1.0, 5.0, 2)


def test_ranges_are_the_extremes_over_all_batches() -> None:
    graph = fold(nn.Sequential(nn.Identity(), nn.ReLU(), nn.AdaptiveAvgPool2d(1)), input_shape=SHAPE)
    images = pictures(70, seed=0)
    images[-1] = 255
    placeholder = next(iter(graph.graph.nodes))
    ranges = observe_ranges(graph, [placeholder], images)
    assert (ranges[placeholder].min_value, ranges[placeholder].max_value) == (0.0, 255.0)
