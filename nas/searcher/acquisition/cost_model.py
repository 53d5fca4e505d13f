"""Cost model: latency, size or memory of a network, additive with a log-linear residual, fitted to one search.

    cost = (columns . coefficients) * exp(features . weights),    coefficients >= 0

- The coefficients start at initial ones, whose common scale is fitted first. A ridge towards these holds them where
  the data says little.
- The residual of the logarithm is a Bayesian ridge regression, whose strength minimises generalised cross-validation
  (Golub, Heath & Wahba 1979, https://doi.org/10.1080/00401706.1979.10489751). It also gives the standard deviation.

A fit takes some milliseconds. The predictions guide the sampler only; a reported cost is that of the file.
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
"""Standard deviation of the logarithm without observations (a factor of 2), and upper limit with a fitted residual."""
PRIOR_STRENGTH = 1.0
"""Weight of the initial coefficients, in observations: with as many, a coefficient lies halfway between its initial
value and that of the data."""
MIN_LOG_STD = 0.01
"""Lower limit of the standard deviation, 1 %: no prediction is taken as exact."""
MIN_RESIDUAL_EXAMPLES = 8
"""Observations from which on the residual is fitted too."""
MAX_EXAMPLES = 300
"""Upper limit on the observations: half the newest, half spread over the older ones."""
RIDGE_STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Grid of ridge strengths, for standardised features."""
DEFAULT_EFFICIENCY = {"dense_macs": 0.4, "pointwise_macs": 0.3, "depthwise_macs": 0.08}
"""Share of the peak arithmetic rate that kernels reach, where the hardware profile has none."""
_EFFICIENCY_KEYS = {"dense_macs": "conv", "pointwise_macs": "pointwise", "depthwise_macs": "depthwise"}


@dataclass(frozen=True, kw_only=True)
class CostEstimate:
    """Predicted costs: mean [n] and standard deviation [n] of their logarithms."""

    log_mean: Floats
    log_std: Floats


CostModel = Callable[[Floats, Floats], CostEstimate]
"""(cost columns [n, c], features [n, d]) to the predicted costs."""


def fit_cost_model(
    cost_columns: Floats, features: Floats, values: Floats, *, initial_coefficients: Floats
) -> CostModel:
    """Fit a cost model.

    Args:
        cost_columns: [n, c] of the observations, 0 or more; n may be 0.
        features: [n, d] of the observations.
        values: [n] their costs, positive.
        initial_coefficients: [c], positive; with one observation or more only their proportions matter.
    """
    if not len(values):
        return lambda c, _: CostEstimate(
            log_mean=np.log(c @ initial_coefficients), log_std=np.full(len(c), PRIOR_LOG_STD)
        )
    rows = newest_and_spread(np.arange(len(values)), MAX_EXAMPLES)
    cost_columns, features, values = cost_columns[rows], features[rows], values[rows]
    # The median ratio sets the scale: one wrong latency does not move it.
    coefficients = _fit_coefficients(
        cost_columns, values, initial_coefficients * float(np.median(values / (cost_columns @ initial_coefficients)))
    )
    residuals = np.log(values) - np.log(cost_columns @ coefficients)
    n_coefficients = int((cost_columns.any(axis=0) & (coefficients > 0)).sum())
    residual_model = _fit_residual(features, residuals, n_coefficients=n_coefficients)

    def predict(c: Floats, t: Floats) -> CostEstimate:
        residual = residual_model(t)
        return CostEstimate(log_mean=np.log(c @ coefficients) + residual.log_mean, log_std=residual.log_std)

    return predict


def _fit_coefficients(cost_columns: Floats, values: Floats, initial_coefficients: Floats) -> Floats:
    """[c] Non-negative coefficients b = initial * z of least relative error, with a ridge towards z = 1.

        min_z |relative z - 1|^2 + |diag(pull) (z - 1)|^2,    z >= 0

    A column that is 0 in every observation keeps its initial coefficient.
    """
    relative = cost_columns * initial_coefficients / values[:, None]  # [n, c] share of each value at z = 1
    used = relative.any(axis=0)
    # In proportion to a column's mean share, so that small parts of the cost are held as firmly as large ones.
    pull = np.sqrt(PRIOR_STRENGTH) * np.maximum(relative.mean(axis=0), 1e-6)[used]
    matrix = np.concatenate([relative[:, used], np.diag(pull)])  # [n + c, c]
    coefficients = initial_coefficients.copy()
    coefficients[used] *= nnls(matrix, np.concatenate([np.ones(len(values)), pull]))
    # Above 0, because the logarithm of the sum is taken; 1e-9 adds nothing to it.
    return np.asarray(np.maximum(coefficients, 1e-9 * initial_coefficients))


def _fit_residual(features: Floats, residuals: Floats, *, n_coefficients: int) -> Callable[[Floats], CostEstimate]:
    """Bayesian ridge regression of the residuals [n] of the logarithm on features [n, d].

    With the singular values d_i, right vectors v_i and the strength s, the predictive variance at standardised z is

        noise (1 + 1/n + sum_i (z . v_i)^2 / (d_i^2 + s) + |z outside the span|^2 / s) + least^2.
    """
    n = len(residuals)
    if n < MIN_RESIDUAL_EXAMPLES:
        # Few observations that disagree say no less than none at all, so the prior is the upper bound.
        deviation = min(PRIOR_LOG_STD, max(MIN_LOG_STD, PRIOR_LOG_STD / np.sqrt(1 + n), float(residuals.std())))
        return lambda t: CostEstimate(log_mean=np.zeros(len(t)), log_std=np.full(len(t), deviation))
    centre, spread = features.mean(axis=0), features.std(axis=0)
    keep = spread > 1e-9
    z = (features[:, keep] - centre[keep]) / spread[keep]
    mean = float(residuals.mean())
    left, sizes, right = np.linalg.svd(z, full_matrices=False)
    projected = left.T @ (residuals - mean)
    strength = min(RIDGE_STRENGTHS, key=lambda s: _gcv_score(sizes, projected, residuals - mean, s))
    shrunk = sizes**2 / (sizes**2 + strength)
    weights = right.T @ (projected * shrunk / np.maximum(sizes, 1e-12))
    # Degrees of freedom that are left: the ridge has used the sum of its shrinkage factors, and the coefficients one
    # each, but a third of n at most, as most of them are held by their prior.
    free = max(1.0, n - 1 - float(shrunk.sum()) - min(n_coefficients, n // 3))
    noise = float(((residuals - mean - z @ weights) ** 2).sum()) / free
    least = MIN_LOG_STD + PRIOR_LOG_STD / (1 + n)  # a few networks that agree say little about the next one

    def predict(t: Floats) -> CostEstimate:
        queries = (t[:, keep] - centre[keep]) / spread[keep]
        inside = ((queries @ right.T) ** 2 / (sizes**2 + strength)).sum(axis=1)
        outside = np.maximum((queries**2).sum(axis=1) - ((queries @ right.T) ** 2).sum(axis=1), 0.0) / strength
        deviation = np.sqrt(noise * (1 + 1 / n + inside + outside) + least**2)
        return CostEstimate(log_mean=mean + queries @ weights, log_std=np.minimum(deviation, PRIOR_LOG_STD))

    return predict


def _gcv_score(singular_values: Floats, projected: Floats, residuals: Floats, strength: float) -> float:
    """Generalised cross-validation score of a ridge, minimised: |y - H y|^2 / (1 - tr(H) / n)^2.

    tr(H) counts the mean too; the floor of 1e-3 keeps the score finite where the fit uses all degrees of freedom.
    """
    shrunk = singular_values**2 / (singular_values**2 + strength)
    residual = float((residuals**2).sum() - (projected**2).sum() + (((1 - shrunk) * projected) ** 2).sum())
    return residual / max(1e-3, 1 - (1 + float(shrunk.sum())) / len(residuals)) ** 2


def initial_latency_coefficients(profile: HardwareProfile) -> Floats:
    """[c] Initial milliseconds of one unit of each column on a device, from the roofline of its hardware profile.

    Without a latency model the floor of a kernel is 3 us and the fixed part 10 us.
    """
    model = profile.latency
    floor_us = model.floor_us if model else 3.0
    efficiency = model.efficiency if model else {}
    # The softmax is in every file, but not in the workload: one kernel more.
    coefficients = {"fixed": 1e-3 * (floor_us + (model.fixed_us if model else 10.0))}
    for bits in BIT_WIDTHS:
        # A bit-width without a rate of its own runs at the next wider one.
        wider = [b for b in profile.peak_gops if b >= bits] or [max(profile.peak_gops)]
        gops, byte_ms = profile.peak_gops[min(wider)], 1e-6 / profile.bandwidth_gb_s
        for part, usual in DEFAULT_EFFICIENCY.items():
            coefficients[f"{part}{bits}"] = 2e-6 / (gops * efficiency.get(_EFFICIENCY_KEYS[part], usual))
        for part in ("dense", "pointwise", "depthwise", "moving"):
            coefficients[f"{part}{bits}"] = 1e-3 * floor_us
        for part in ("elements", "moved", "weights"):
            coefficients[f"{part}{bits}"] = byte_ms * bits / 8
    return _fill_missing(coefficients)


def initial_size_coefficients() -> Floats:
    """[c] Initial bytes of one unit of each column in an ONNX file.

    A channel has a bias of 4 bytes and, with INT8, a scale and a zero point; a node has 300 bytes of names and
    attributes, and a file 3,000 of its own.
    """
    coefficients = {"fixed": 3000.0}
    for bits in BIT_WIDTHS:
        coefficients |= {f"weights{bits}": bits / 8, f"channels{bits}": 4.0 + 5.0 * (bits == 8)}
        coefficients |= {f"{part}{bits}": 300.0 for part in ("dense", "pointwise", "depthwise", "moving")}
    return _fill_missing(coefficients)


def initial_memory_coefficients() -> Floats:
    """[c] Initial bytes of weights and live activations for one unit of each column.

    The peak is no sum over layers; of the elements that all layers read and write, usually about a sixth are alive in
    the widest place. The residual of the model learns the rest.
    """
    coefficients = {"fixed": 1000.0}
    for bits in BIT_WIDTHS:
        coefficients |= {f"weights{bits}": bits / 8, f"channels{bits}": 4.0 + 5.0 * (bits == 8)}
        coefficients[f"elements{bits}"] = bits / 8 / 6
    return _fill_missing(coefficients)


def _fill_missing(coefficients: dict[str, float]) -> Floats:
    """[c] The coefficients of all columns; a millionth of the least for those without one, since none may be 0."""
    least = 1e-6 * min(coefficients.values())
    return np.array([coefficients.get(name, least) for name in COST_COLUMNS])
