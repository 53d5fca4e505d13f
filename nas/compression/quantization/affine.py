"""Uniform quantisation: which grid holds a range of values, and rounding to it.

After Nagel et al. 2021 (https://arxiv.org/abs/2106.08295). A grid of b bits has levels `low`..`high`; level q stands
for (q - zero point) * step. Papers on nets for faces write the symmetric scale factor as s_b = (2^b - 1) / (2 max|W|),
levels per unit; steps here are its reciprocal, units per level.
"""

from typing import TypeVar

import torch
from torch import Tensor

Number = TypeVar("Number", float, Tensor)

MIN_RANGE = 1e-8
"""Range below which a tensor counts as constant 0: a step must stay positive."""


def quant_range(bits: int, *, signed: bool, narrow_range: bool = False) -> tuple[int, int]:
    """The lowest and highest level of `bits` bits; `narrow_range` leaves the lowest signed one out, so that both ends agree.

    Raises:
        ValueError: `bits` is less than 2, or `narrow_range` without a sign.
    """
    if bits < 2 or (narrow_range and not signed):
        raise ValueError(f"a grid must have 2 bits or more, and a sign if narrow, but got {bits} bits, {signed=}")
    if not signed:
        return 0, 2**bits - 1
    return -(2 ** (bits - 1)) + narrow_range, 2 ** (bits - 1) - 1


def symmetric_scale(max_abs: Number, *, bits: int) -> Number:
    """The step 1 / s_b = 2 peak / (2^b - 1): all 2^b levels share -peak..peak; `max_abs` is half a step above the highest.

    Args:
        max_abs: largest magnitude, not negative; a tensor holds one for each channel.
        bits: of the grid.
    """
    return 2 * max_abs / (2**bits - 1)  # type: ignore[no-any-return]


def narrow_range_scale(max_abs: Number, *, bits: int) -> Number:
    """The step peak / (2^(b-1) - 1): -peak and peak are levels themselves. Runtimes' integer kernels expect it.

    Args:
        max_abs: largest magnitude, not negative; a tensor holds one for each channel.
        bits: of the grid.
    """
    return max_abs / (2 ** (bits - 1) - 1)  # type: ignore[no-any-return]


def affine_scale_zero_point(low: float, high: float, *, bits: int) -> tuple[float, int]:
    """Step and zero point of the unsigned grid over low..high, widened to hold 0, which is always a level.

    Raises:
        ValueError: `low` is greater than `high`.
    """
    if not low <= high:
        raise ValueError(f"a range must ascend, but got {low}..{high}")
    low, high, top = min(low, 0.0), max(high, 0.0), 2**bits - 1
    step = max(high - low, MIN_RANGE) / top
    return step, min(top, max(0, round(-low / step)))


def quantize(x: Tensor, scale: float | Tensor, *, zero_point: int = 0, quant_min: int, quant_max: int) -> Tensor:
    """The nearest levels, ties to even as in ONNX, as floats; same shape.

    Args:
        x: any shape.
        scale: width of a level, positive; a tensor broadcasts.
        zero_point: level of 0.0.
        quant_min: lowest level.
        quant_max: highest level.
    """
    return (torch.round(x / scale) + zero_point).clamp(quant_min, quant_max)


def dequantize(levels: Tensor, scale: float | Tensor, *, zero_point: int = 0) -> Tensor:
    """What levels stand for."""
    return (levels - zero_point) * scale
