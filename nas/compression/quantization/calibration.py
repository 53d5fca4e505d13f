"""Where a range of activations is cut off, by the counts of its values.

`percentile` leaves 0.01 % of the values outside at either end (99.99 % is the best percentile of Wu et al. 2020,
https://arxiv.org/abs/2004.09602). `entropy` takes the least Kullback-Leibler divergence between values and levels, as
TensorRT's calibrator does (Migacz, "8-bit inference with TensorRT", GTC 2017). What is different here: both ends of a
range shrink by one share, so that 0 stays a level wherever it lies, and ranges need not be symmetric.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Histogram = npt.NDArray[np.float64]
ClippingMethod = Callable[[Histogram, float, float, int], tuple[float, float]]
"""(counts, low, high, levels) to the range that remains."""

HISTOGRAM_BINS = 2048
TAIL_FRACTION = 1e-4
ENTROPY_CANDIDATES = 57
"""How many shares of the range `entropy` tries; with the least, each bin has a level of its own."""
_SMOOTHING = 1e-4


def percentile_range(counts: Histogram, low: float, high: float, levels: int) -> tuple[float, float]:
    """The range with at most `TAIL_FRACTION` of the values below it and as many above; it holds 0.

    Args:
        counts: [BINS] values in each of the equal parts of low..high.
        low: lower end, 0 or less.
        high: upper end, 0 or more.
        levels: how many levels low..high has, if nothing is cut off.
    """
    below = np.cumsum(counts) / max(1.0, counts.sum())
    first = int(np.searchsorted(below, TAIL_FRACTION, side="right"))
    last = int(np.searchsorted(below, 1 - TAIL_FRACTION, side="left"))
    width = (high - low) / len(counts)
    return min(0.0, low + first * width), max(0.0, low + (min(last, len(counts) - 1) + 1) * width)


def entropy_range(counts: Histogram, low: float, high: float, levels: int) -> tuple[float, float]:
    """The range whose levels tell most about the values; ties take the wider one. Arguments as in `percentile`.

    Values that are exactly 0 should not be counted: every grid holds them, however many there are.
    """
    zero = -low / (high - low) * len(counts) if high > low else 0.0
    shares = np.linspace(1, min(1.0, levels / len(counts)), ENTROPY_CANDIDATES)
    share = float(min(shares, key=lambda s: _kl_divergence(counts, *_clipped_bins(zero, s, len(counts)), levels)))
    return low * share, high * share


def _clipped_bins(zero_bin: float, fraction: float, n_bins: int) -> tuple[int, int]:
    return int(np.floor(zero_bin * (1 - fraction))), int(np.ceil(zero_bin + (n_bins - zero_bin) * fraction))


def _kl_divergence(counts: Histogram, first: int, end: int, levels: int) -> float:
    """KL(values clipped to the bins first..end, the values in there after they share `levels` levels)."""
    inside = counts[first:end]
    clipped = inside.copy()
    clipped[0] += counts[:first].sum()
    clipped[-1] += counts[end:].sum()
    level = np.arange(len(inside)) * levels // len(inside)
    taken = inside > 0
    sums, bins = np.bincount(level, inside, levels), np.bincount(level, taken, levels)
    shared = np.where(taken, (sums / np.maximum(bins, 1))[level], 0.0)
    p, q = _smoothed_probabilities(clipped), _smoothed_probabilities(shared)
    return float((p * np.log(p / q)).sum())


def _smoothed_probabilities(counts: Histogram) -> Histogram:
    """Shares that sum to 1, none of them 0."""
    shares = counts / max(1.0, counts.sum()) + _SMOOTHING / len(counts)
    return np.asarray(shares / shares.sum(), dtype=np.float64)


CLIPPING_METHODS: dict[str, ClippingMethod] = {"percentile": percentile_range, "entropy": entropy_range}
