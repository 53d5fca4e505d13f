"""Affine (uniform) quantisation: the grid that holds a range of values, and rounding to it.

After Nagel et al. 2021 (https://arxiv.org/abs/2106.08295). A grid of b bits has levels `quant_min`..`quant_max`; level
q stands for the value (q - zero point) * scale. Papers on nets for faces define the symmetric scale factor as s_b =
(2^b - 1) / (2 max|W|), levels per unit; scales here are its reciprocal, units per level.
"""

from typing import TypeVar

import torch
from torch import Tensor

Number = TypeVar("Number", float, Tensor)

MIN_RANGE = 1e-8
"""Range below which a tensor counts as constant 0: a scale must stay positive."""


def quant_range(bits: int, *, signed: bool, narrow_range: bool = False) -> tuple[int, int]:
    """The lowest and highest level of a grid.

    Args:
        bits: at least 2.
        signed: whether levels are centred on 0.
        narrow_range: leave out the lowest signed level, so that both ends have the same magnitude.

    Raises:
        ValueError: `bits` is less than 2, or `narrow_range` without a sign.
    """
    if bits < 2 or (narrow_range and not signed):
        raise ValueError(f"a grid must have 2 bits or more, and a sign if narrow, but got {bits} bits, {signed=}")
    if not signed:
        return 0, 2**bits - 1
    return -(2 ** (bits - 1)) + narrow_range, 2 ** (bits - 1) - 1


def symmetric_scale(max_abs: Number, *, bits: int) -> Number:
    """The scale 1 / s_b = 2 max_abs / (2^b - 1): all 2^b levels share the range -max_abs..max_abs.

    `max_abs` lies half a step above the highest level.

    Args:
        max_abs: largest magnitude, not negative; a tensor holds one for each channel.
        bits: of the grid.
    """
    return 2 * max_abs / (2**bits - 1)  # type: ignore[no-any-return]


def narrow_range_scale(max_abs: Number, *, bits: int) -> Number:
    """The scale max_abs / (2^(b-1) - 1): -max_abs and max_abs are levels themselves, as integer kernels expect.

    Args:
        max_abs: largest magnitude, not negative; a tensor holds one for each channel.
        bits: of the grid.
    """
    return max_abs / (2 ** (bits - 1) - 1)  # type: ignore[no-any-return]


def affine_scale_zero_point(low: float, high: float, *, bits: int) -> tuple[float, int]:
    """Scale and zero point of the unsigned grid over low..high, widened to hold 0, which is always a level.

    Raises:
        ValueError: `low` is greater than `high`.
    """
    if not low <= high:
        raise ValueError(f"a range must ascend, but got {low}..{high}")
    low, high, top = min(low, 0.0), max(high, 0.0), 2**bits - 1
    scale = max(high - low, MIN_RANGE) / top
    return scale, min(top, max(0, round(-low / scale)))


def quantize(x: Tensor, scale: float | Tensor, *, zero_point: int = 0, quant_min: int, quant_max: int) -> Tensor:
    """The nearest levels, ties to even as in ONNX, as floats of the same shape.

    Args:
        x: any shape.
        scale: step between two levels, positive; a tensor broadcasts.
        zero_point: level of 0.0.
        quant_min: lowest level.
        quant_max: highest level.
    """
    return (torch.round(x / scale) + zero_point).clamp(quant_min, quant_max)


def dequantize(levels: Tensor, scale: float | Tensor, *, zero_point: int = 0) -> Tensor:
    """The values of levels; same shape."""
    return (levels - zero_point) * scale


def broadcast_channels(scale: Tensor, weight: Tensor) -> Tensor:
    """One number per output channel [C] in the shape [C, 1, ...] that broadcasts over a weight [C, ...]."""
    return scale.reshape(-1, *[1] * (weight.ndim - 1))
