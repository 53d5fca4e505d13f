"""Affine quantisation: what rounding to a grid preserves, over all ranges and bit-widths."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nas.compression.quantization.affine import (
    affine_scale_zero_point,
    dequantize,
    narrow_range_scale,
    quant_range,
    quantize,
    symmetric_scale,
)

PEAKS = st.floats(1e-3, 1e3)
BITS = st.integers(2, 8)
VALUES = st.lists(st.floats(-1, 1), min_size=1, max_size=30)


def trip(x: torch.Tensor, step: float, zero_point: int, low: int, high: int) -> torch.Tensor:
    levels = quantize(x, step, zero_point=zero_point, quant_min=low, quant_max=high)
    assert torch.equal(levels, levels.round())
    assert low <= float(levels.min()) <= float(levels.max()) <= high
    return dequantize(levels, step, zero_point=zero_point)


def grid(kind: str, peak: float, bits: int) -> tuple[float, int, int, int]:
    """Scale, zero point and bounds of a grid over -peak..peak."""
    if kind == "affine":
        return (*affine_scale_zero_point(-peak, peak, bits=bits), *quant_range(bits, signed=False))
    step = narrow_range_scale(peak, bits=bits) if kind == "narrow" else symmetric_scale(peak, bits=bits)
    return (step, 0, *quant_range(bits, signed=True, narrow_range=kind == "narrow"))


@pytest.mark.parametrize("kind", ["narrow", "symmetric", "affine"])
@given(peak=PEAKS, bits=BITS, shares=VALUES)
def test_a_round_trip_is_close_idempotent_and_keeps_order_and_zero(
    kind: str, peak: float, bits: int, shares: list[float]
) -> None:
    step, zero_point, low, high = grid(kind, peak, bits)
    x = torch.tensor(sorted(shares), dtype=torch.float64) * peak
    y = trip(x, step, zero_point, low, high)
    # The affine zero point is rounded itself, which moves both ends by up to half a step.
    at_most = step if kind == "affine" else step / 2
    assert float((x - y).abs().max()) <= at_most * (1 + 1e-9)
    assert torch.equal(trip(y, step, zero_point, low, high), y)
    assert bool((y.diff() >= 0).all())
    assert float(trip(torch.zeros(1, dtype=torch.float64), step, zero_point, low, high)) == 0


@given(low=st.floats(-100, 0), width=st.floats(1e-3, 100), bits=BITS)
def test_inside_an_affine_range_errors_are_at_most_half_a_step(low: float, width: float, bits: int) -> None:
    step, zero_point = affine_scale_zero_point(low, low + width, bits=bits)
    bottom, top = quant_range(bits, signed=False)
    x = torch.linspace((bottom - zero_point) * step, (top - zero_point) * step, 50, dtype=torch.float64)
    assert float((trip(x, step, zero_point, bottom, top) - x).abs().max()) <= step / 2 * (1 + 1e-9)


@given(peak=PEAKS, bits=BITS)
def test_narrow_ranges_end_on_levels_and_symmetric_ones_half_a_step_beyond(peak: float, bits: int) -> None:
    ends = torch.tensor([-peak, peak], dtype=torch.float64)
    step, _, low, high = grid("narrow", peak, bits)
    assert torch.allclose(trip(ends, step, 0, low, high), ends, rtol=1e-12)
    assert (low, high) == (-(2 ** (bits - 1)) + 1, 2 ** (bits - 1) - 1)
    step, _, low, high = grid("symmetric", peak, bits)
    assert math.isclose(peak - high * step, step / 2, rel_tol=1e-9)
    assert math.isclose(1 / step, (2**bits - 1) / (2 * peak))  # s_b as papers write it


def test_an_affine_range_is_widened_to_zero_and_covered() -> None:
    assert affine_scale_zero_point(2.0, 5.1, bits=8) == (5.1 / 255, 0)
    assert affine_scale_zero_point(-5.1, -2.0, bits=8) == (5.1 / 255, 255)
    step, zero_point = affine_scale_zero_point(-1.0, 3.0, bits=8)
    assert (-zero_point * step, (255 - zero_point) * step) == pytest.approx((-1, 3), abs=step / 2)
    assert affine_scale_zero_point(0.0, 0.0, bits=8)[0] > 0


def test_ties_go_to_even_levels_as_in_onnx() -> None:
    x = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    assert quantize(x, 1.0, quant_min=-128, quant_max=127).tolist() == [-2, -2, 0, 0, 2, 2]


def test_scales_broadcast_per_channel() -> None:
    weight = torch.tensor([[1.0, -0.5], [0.02, 0.011]])
    step = narrow_range_scale(weight.abs().amax(1, keepdim=True), bits=8)
    levels = quantize(weight, step, quant_min=-127, quant_max=127)
    assert levels.tolist() == [[127, -64], [127, 70]]
    assert np.allclose(dequantize(levels, step), weight, atol=0.004)


def test_invalid_grids_are_rejected() -> None:
    with pytest.raises(ValueError, match="must have 2 bits or more, and a sign if narrow, but got 1 bits"):
        quant_range(1, signed=True)
    with pytest.raises(ValueError, match="a sign if narrow"):
        quant_range(8, signed=False, narrow_range=True)
    with pytest.raises(ValueError, match=r"must ascend, but got 1.0..0.5"):
        affine_scale_zero_point(1.0, 0.5, bits=8)
