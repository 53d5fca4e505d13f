"""Guesses of what a net costs, learned from the nets of one search: a sum of non-negative costs, and what is left over.

    cost = columns . prices * exp(traits . weights),  prices >= 0

The prices begin with rough ones whose scale is learned first, and leave them as far as the examples ask for (ridge).
What the sum leaves over is learned in the logarithm by Bayesian ridge regression, its strength chosen by generalised
cross-validation (Golub, Heath & Wahba 1979, https://doi.org/10.1080/00401706.1979.10489751), which also says how far to
trust a guess. A fit takes some milliseconds. The final word has always the file itself.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hw_profiles._base import HardwareProfile
from nas.latency.predicted.nnls import nnls
from nas.searcher.acquisition.candidate_features import BIT_WIDTHS, COST_COLUMNS
from nas.searcher.acquisition.subsample import newest_and_spread

Floats = npt.NDArray[np.float64]

PRIOR_LOG_STD = 0.7
"""Standard deviation of the logarithm before anything is learned."""
PRIOR_STRENGTH = 1.0
"""How many examples it takes to move a price as far from its first value as from 0."""
MIN_LOG_STD = 0.01
MIN_RESIDUAL_EXAMPLES = 8
"""Examples from which what is left over is learned too."""
MAX_EXAMPLES = 300
"""Examples that are learned from: half the newest, half spread over the others."""
RIDGE_STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
DEFAULT_EFFICIENCY = {"dense_macs": 0.4, "pointwise_macs": 0.3, "depthwise_macs": 0.08}
"""Share of the peak rate that kernels reach, where a profile does not say."""
_EFFICIENCY_KEYS = {"dense_macs": "conv", "pointwise_macs": "pointwise", "depthwise_macs": "depthwise"}


@dataclass(frozen=True, kw_only=True)
class CostEstimate:
    """Mean [n] and standard deviation [n] of the logarithm of a cost."""

    log_mean: Floats
    log_std: Floats


CostModel = Callable[[Floats, Floats], CostEstimate]
"""(columns [n, c], traits [n, d]) to a guess."""


def fit_cost_model(
    cost_columns: Floats, features: Floats, values: Floats, *, initial_coefficients: Floats
) -> CostModel:
    """A guesser of costs.

    Args:
        cost_columns: [n, c] of the examples, 0 or more; n may be 0.
        features: [n, d] of the examples.
        values: [n] their costs, positive.
        initial_coefficients: [c] rough ones, positive; only their proportions count once there is an example.
    """
    if not len(values):
        return lambda c, _: CostEstimate(
            log_mean=np.log(c @ initial_coefficients), log_std=np.full(len(c), PRIOR_LOG_STD)
        )
    rows = newest_and_spread(np.arange(len(values)), MAX_EXAMPLES)
    cost_columns, features, values = cost_columns[rows], features[rows], values[rows]
    found = _fit_coefficients(
        cost_columns, values, initial_coefficients * float(np.median(values / (cost_columns @ initial_coefficients)))
    )
    rest = np.log(values) - np.log(cost_columns @ found)
    left_over = _fit_residual(features, rest, n_coefficients=int((cost_columns.any(axis=0) & (found > 0)).sum()))

    def guess(c: Floats, t: Floats) -> CostEstimate:
        more = left_over(t)
        return CostEstimate(log_mean=np.log(c @ found) + more.log_mean, log_std=more.log_std)

    return guess


def _fit_coefficients(cost_columns: Floats, values: Floats, initial_coefficients: Floats) -> Floats:
    """[c] Prices of least relative error, held back by their first values; what no example has keeps its own."""
    relative = (
        cost_columns * initial_coefficients / values[:, None]
    )  # [n, c] shares of each value, in multiples of the first prices
    used = relative.any(axis=0)
    pull = np.sqrt(PRIOR_STRENGTH) * np.maximum(relative.mean(axis=0), 1e-6)[used]
    matrix = np.concatenate([relative[:, used], np.diag(pull)])  # [n + c, c]
    found = initial_coefficients.copy()
    found[used] *= nnls(matrix, np.concatenate([np.ones(len(values)), pull]))
    return np.asarray(np.maximum(found, 1e-9 * initial_coefficients))


def _fit_residual(features: Floats, residuals: Floats, *, n_coefficients: int) -> Callable[[Floats], CostEstimate]:
    """A guesser of what the sum leaves over, in the logarithm."""
    n = len(residuals)
    if n < MIN_RESIDUAL_EXAMPLES:
        deviation = max(MIN_LOG_STD, PRIOR_LOG_STD / np.sqrt(1 + n), float(residuals.std()))
        return lambda t: CostEstimate(log_mean=np.zeros(len(t)), log_std=np.full(len(t), deviation))
    centre, spread = features.mean(axis=0), features.std(axis=0)
    keep = spread > 1e-9
    z = (features[:, keep] - centre[keep]) / spread[keep]
    mean = float(residuals.mean())
    left, sizes, right = np.linalg.svd(z, full_matrices=False)
    turned = left.T @ (residuals - mean)
    strength = min(RIDGE_STRENGTHS, key=lambda s: _gcv_score(sizes, turned, residuals - mean, s))
    shrunk = sizes**2 / (sizes**2 + strength)
    weights = right.T @ (turned * shrunk / np.maximum(sizes, 1e-12))
    free = max(1.0, n - 1 - float(shrunk.sum()) - min(n_coefficients, n // 3))
    noise = float(((residuals - mean - z @ weights) ** 2).sum()) / free
    least = MIN_LOG_STD + PRIOR_LOG_STD / (1 + n)  # a few nets that agree say little of the next

    def guess(t: Floats) -> CostEstimate:
        asked = (t[:, keep] - centre[keep]) / spread[keep]
        inside = ((asked @ right.T) ** 2 / (sizes**2 + strength)).sum(axis=1)
        outside = np.maximum((asked**2).sum(axis=1) - ((asked @ right.T) ** 2).sum(axis=1), 0.0) / strength
        deviation = np.sqrt(noise * (1 + 1 / n + inside + outside) + least**2)
        return CostEstimate(log_mean=mean + asked @ weights, log_std=np.minimum(deviation, PRIOR_LOG_STD))

    return guess


def _gcv_score(singular_values: Floats, projected: Floats, residuals: Floats, strength: float) -> float:
    """The generalised cross-validation score of a ridge, less is better."""
    shrunk = singular_values**2 / (singular_values**2 + strength)
    residual = float((residuals**2).sum() - (projected**2).sum() + (((1 - shrunk) * projected) ** 2).sum())
    return residual / max(1e-3, 1 - (1 + float(shrunk.sum())) / len(residuals)) ** 2


def initial_latency_coefficients(profile: HardwareProfile) -> Floats:
    """[c] Rough milliseconds of one unit of each column on a device, by the facts of its profile."""
    model = profile.latency
    floor_us = model.floor_us if model else 3.0
    efficiency = model.efficiency if model else {}
    found = {"fixed": 1e-3 * (floor_us + (model.fixed_us if model else 10.0))}  # the softmax is in every file
    for bits in BIT_WIDTHS:
        wider = [b for b in profile.peak_gops if b >= bits] or [max(profile.peak_gops)]
        gops, byte_ms = profile.peak_gops[min(wider)], 1e-6 / profile.bandwidth_gb_s
        for part, usual in DEFAULT_EFFICIENCY.items():
            found[f"{part}{bits}"] = 2e-6 / (gops * efficiency.get(_EFFICIENCY_KEYS[part], usual))
        for part in ("dense", "pointwise", "depthwise", "moving"):
            found[f"{part}{bits}"] = 1e-3 * floor_us
        for part in ("elements", "moved", "weights"):
            found[f"{part}{bits}"] = byte_ms * bits / 8
    return _fill_missing(found)


def initial_size_coefficients() -> Floats:
    """[c] Rough bytes of one unit of each column in a file: weights, what stands for a channel, and a node's own."""
    found = {"fixed": 3000.0}
    for bits in BIT_WIDTHS:
        found |= {f"weights{bits}": bits / 8, f"channels{bits}": 4.0 + 5.0 * (bits == 8)}
        found |= {f"{part}{bits}": 300.0 for part in ("dense", "pointwise", "depthwise", "moving")}
    return _fill_missing(found)


def _fill_missing(coefficients: dict[str, float]) -> Floats:
    """The prices of all columns; those without one have hardly any."""
    least = 1e-6 * min(coefficients.values())
    return np.array([coefficients.get(name, least) for name in COST_COLUMNS])
