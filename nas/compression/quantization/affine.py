"""Uniform quantisation: which grid holds a range of values, and rounding to it.

After Nagel et al. 2021 (https://arxiv.org/abs/2106.08295). A grid of b bits has levels `low`..`high`; level q stands
for (q - zero point) * step. Papers on nets for faces write the symmetric scale factor as s_b = (2^b - 1) / (2 max|W|),
levels per unit; steps here are its reciprocal, units per level.
"""

from typing import TypeVar

import torch
from torch import Tensor

Number = TypeVar("Number", float, Tensor)

LEAST = 1e-8
"""Range below which a tensor counts as constant 0: a step must stay positive."""


def bounds(bits: int, *, signed: bool, narrow: bool = False) -> tuple[int, int]:
    """The lowest and highest level of `bits` bits; `narrow` leaves the lowest signed one out, so that both ends agree.

    Raises:
        ValueError: `bits` is less than 2, or `narrow` without a sign.
    """
    if bits < 2 or (narrow and not signed):
        raise ValueError(f"a grid must have 2 bits or more, and a sign if narrow, but got {bits} bits, {signed=}")
    if not signed:
        return 0, 2**bits - 1
    return -(2 ** (bits - 1)) + narrow, 2 ** (bits - 1) - 1


def symmetric_step(peak: Number, *, bits: int) -> Number:
    """The step 1 / s_b = 2 peak / (2^b - 1): all 2^b levels share -peak..peak; `peak` is half a step above the highest.

    Args:
        peak: largest magnitude, not negative; a tensor holds one for each channel.
        bits: of the grid.
    """
    return 2 * peak / (2**bits - 1)  # type: ignore[no-any-return]


def narrow_step(peak: Number, *, bits: int) -> Number:
    """The step peak / (2^(b-1) - 1): -peak and peak are levels themselves. Runtimes' integer kernels expect it.

    Args:
        peak: largest magnitude, not negative; a tensor holds one for each channel.
        bits: of the grid.
    """
    return peak / (2 ** (bits - 1) - 1)  # type: ignore[no-any-return]


def affine_grid(low: float, high: float, *, bits: int) -> tuple[float, int]:
    """Step and zero point of the unsigned grid over low..high, widened to hold 0, which is always a level.

    Raises:
        ValueError: `low` is greater than `high`.
    """
    if not low <= high:
        raise ValueError(f"a range must ascend, but got {low}..{high}")
    low, high, top = min(low, 0.0), max(high, 0.0), 2**bits - 1
    step = max(high - low, LEAST) / top
    return step, min(top, max(0, round(-low / step)))


def quantise(x: Tensor, step: float | Tensor, *, zero_point: int = 0, low: int, high: int) -> Tensor:
    """The nearest levels, ties to even as in ONNX, as floats; same shape.

    Args:
        x: any shape.
        step: width of a level, positive; a tensor broadcasts.
        zero_point: level of 0.0.
        low: lowest level.
        high: highest level.
    """
    return (torch.round(x / step) + zero_point).clamp(low, high)


def dequantise(levels: Tensor, step: float | Tensor, *, zero_point: int = 0) -> Tensor:
    """What levels stand for."""
    return (levels - zero_point) * step
