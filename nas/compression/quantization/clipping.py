"""Clipping of an activation's range by the histogram of its values.

- `percentile` leaves 0.01 % of the values outside at either end (99.99 % is the best percentile of Wu et al. 2020,
  https://arxiv.org/abs/2004.09602).
- `entropy` minimises the Kullback-Leibler divergence between values and levels, as TensorRT's calibrator does (Migacz,
  "8-bit inference with TensorRT", GTC 2017).

What is different here: both ends of a range shrink by the same share, so that 0 stays a level wherever it lies, and
ranges need not be symmetric.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Histogram = npt.NDArray[np.float64]
ClippingMethod = Callable[[Histogram, float, float, int], tuple[float, float]]
"""(histogram, low, high, levels) to the range that remains."""

HISTOGRAM_BINS = 2048
TAIL_FRACTION = 1e-4
ENTROPY_CANDIDATES = 57
"""Number of shares of the range that `entropy` tries; with the smallest one, each bin has a level of its own."""
_SMOOTHING = 1e-4
"""Probability mass spread over all bins, so that no logarithm is infinite."""


def percentile_range(counts: Histogram, low: float, high: float, levels: int) -> tuple[float, float]:
    """The range with at most `TAIL_FRACTION` of the values below it and as many above it; it contains 0.

    Args:
        counts: values in each of the equal bins of low..high [HISTOGRAM_BINS].
        low: lower end, 0 or less.
        high: upper end, 0 or more.
        levels: levels of the grid over low..high; not used.
    """
    below = np.cumsum(counts) / max(1.0, counts.sum())
    first = int(np.searchsorted(below, TAIL_FRACTION, side="right"))
    last = int(np.searchsorted(below, 1 - TAIL_FRACTION, side="left"))
    width = (high - low) / len(counts)
    return min(0.0, low + first * width), max(0.0, low + (min(last, len(counts) - 1) + 1) * width)


def entropy_range(counts: Histogram, low: float, high: float, levels: int) -> tuple[float, float]:
    """The range whose levels carry the most information about the values; ties take the wider one.

    Values that are exactly 0 should not be counted: every grid represents them, however many there are. Arguments as in
    `percentile_range`.
    """
    zero = -low / (high - low) * len(counts) if high > low else 0.0
    shares = np.linspace(1, min(1.0, levels / len(counts)), ENTROPY_CANDIDATES)
    share = float(min(shares, key=lambda s: _kl_divergence(counts, *_clipped_bins(zero, s, len(counts)), levels)))
    return low * share, high * share


def _clipped_bins(zero_bin: float, fraction: float, n_bins: int) -> tuple[int, int]:
    return int(np.floor(zero_bin * (1 - fraction))), int(np.ceil(zero_bin + (n_bins - zero_bin) * fraction))


def _kl_divergence(counts: Histogram, first: int, end: int, levels: int) -> float:
    """KL divergence of the values clipped to the bins first..end from those values spread over `levels` levels."""
    inside = counts[first:end]
    clipped = inside.copy()
    clipped[0] += counts[:first].sum()  # clipping moves outliers to the outermost bins
    clipped[-1] += counts[end:].sum()
    level = np.arange(len(inside)) * levels // len(inside)
    occupied = inside > 0
    # A level spreads its values evenly over its occupied bins; empty bins stay empty, as in TensorRT's calibrator.
    sums, bins = np.bincount(level, inside, levels), np.bincount(level, occupied, levels)
    quantized = np.where(occupied, (sums / np.maximum(bins, 1))[level], 0.0)
    p, q = _smoothed_probabilities(clipped), _smoothed_probabilities(quantized)
    return float((p * np.log(p / q)).sum())


def _smoothed_probabilities(counts: Histogram) -> Histogram:
    """Probabilities that sum to 1, none of them 0."""
    shares = counts / max(1.0, counts.sum()) + _SMOOTHING / len(counts)
    return np.asarray(shares / shares.sum(), dtype=np.float64)


CLIPPING_METHODS: dict[str, ClippingMethod] = {"percentile": percentile_range, "entropy": entropy_range}
