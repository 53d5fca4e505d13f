"""Additive fit: a latency as a sum of non-negative costs, from few samples and with a prior.

    latency = columns . coefficients,  coefficients >= 0,  relative error least

A net of 20 kernels has more columns than a calibration has samples, so the fit has two steps.

1. The coefficients move together along the columns of a tie [k, t]. A prior is a tie whose columns are its parts
   (fixed, floors, arithmetic, traffic); only the t multipliers are fitted. Several ties may be plausible (does the
   runtime execute dead branches?): they are averaged by their error on held-out samples, because picking one alone
   often picks the wrong one of two that are nearly as good.
2. Each coefficient may leave the value of the first step against a ridge, whose strength cross-validation selects.

Residuals are relative and count by Huber's loss (`nas.latency.predicted.huber_nnls`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nas.latency.predicted.huber_nnls import fit_huber_nnls

Floats = npt.NDArray[np.float64]

RIDGE_STRENGTHS = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
"""Candidate ridges of the second step, half a decade apart, in units of the weight of all samples."""
N_FOLDS = 5
N_RESAMPLES = 20
_TIED_RIDGE = 1e-4
"""Ridge towards 0 of multipliers without a scale: collinear parts stay solvable, and no other part moves."""
_IRLS_ITERATIONS = 4
_MIN_SCALE = 0.005
"""Lower bound of the scale of relative errors: half of the 1 % to which figures repeat (benchmarks/timing.py)."""
_ERROR_CLIP = 0.25
"""Relative error from which a held-out sample counts no more: one outlier must not decide between two models."""
_WEIGHT_SHARPNESS = 0.5
"""Exponent a sample of the weights of ties, as in a likelihood: with n samples, twice the error weighs 2^(-n/2)."""
_MIN_TIE_WEIGHT = 1e-3
"""Ties below are skipped; each costs a fit, in every fold and resample."""


@dataclass(frozen=True, kw_only=True)
class AdditiveFit:
    """A fitted additive model.

    Attributes:
        coefficients: [k], in the unit of the values for one unit of each column.
        bootstrap_coefficients: [r, k], the same from bootstrap resamples of the samples.
        tie_weights: [ties] weight of each tie in the first step; they sum to 1.
        ridge_strength: selected strength of the ridge; None where the tied coefficients were kept.
        held_out_errors: [n] relative error of each sample when it was held out, prediction over value minus one.
    """

    coefficients: Floats
    bootstrap_coefficients: Floats
    tie_weights: Floats
    ridge_strength: float | None
    held_out_errors: Floats


def fit_additive(
    columns: Floats,
    values: Floats,
    ties: Sequence[Floats],
    *,
    prior_samples: float = 0.0,
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
) -> AdditiveFit:
    """Fit non-negative coefficients.

    Args:
        columns: [n, k], amount of every kind of cost in each sample.
        values: [n], the measured latencies, positive.
        ties: candidates [k, t] for the first step. A tie may have columns that the samples do not need.
        prior_samples: how many samples the multiplier 1 of every part of a tie is worth; 0 where the parts have no
            scale of their own.
        seed: seed of folds and resamples.
        n_resamples: number of bootstrap resamples (Efron, Annals of Statistics 7(1), 1979).

    Raises:
        ValueError: fewer than 5 samples, or a value that is not positive.
    """
    if len(values) < N_FOLDS or not np.all(values > 0):
        raise ValueError(
            f"a fit needs {N_FOLDS} latencies or more, all positive, but got {len(values)}, "
            f"least {np.min(values, initial=np.inf):g}; measure more"
        )
    generator = np.random.default_rng(seed)
    # A permutation of balanced labels: every fold has its share of samples, even of five.
    folds = generator.permutation(np.arange(len(values)) % N_FOLDS)
    tie_weights = _weigh_ties(columns, values, ties, prior_samples, folds)
    plan = _FitPlan(ties=ties, tie_weights=tie_weights, prior_samples=prior_samples)
    # The same folds select the ridge and give the errors: slightly optimistic, but a nested loop costs 5 times as much.
    ridge_strength, errors = _select_ridge_strength(columns, values, plan, folds)

    def fit_rows(rows: npt.NDArray[np.intp]) -> Floats:
        return plan.fit(columns[rows], values[rows], (ridge_strength,))[0]

    every = np.arange(len(values))
    resamples = [generator.choice(every, len(every)) for _ in range(n_resamples)]
    return AdditiveFit(
        coefficients=fit_rows(every),
        bootstrap_coefficients=np.array([fit_rows(rows) for rows in resamples]).reshape(n_resamples, columns.shape[1]),
        tie_weights=tie_weights,
        ridge_strength=ridge_strength,
        held_out_errors=errors,
    )


@dataclass(frozen=True, kw_only=True)
class _FitPlan:
    """What is the same for every subset of the samples: the ties, their weights, and the prior."""

    ties: Sequence[Floats]
    tie_weights: Floats
    prior_samples: float

    def fit(self, columns: Floats, values: Floats, ridge_strengths: Sequence[float | None]) -> list[Floats]:
        """Coefficients [k] for each strength; None keeps those of the first step."""
        start = np.zeros(columns.shape[1])
        for tie, weight in zip(self.ties, self.tie_weights, strict=True):
            if weight > _MIN_TIE_WEIGHT:
                start += weight * _fit_tied(columns, values, tie, self.prior_samples)
        # In units of the mean contribution squared, strength 1 weighs as much as all samples, whatever their number.
        usual = _mean_contribution(columns, values)
        return [
            start if s is None else _fit_huber(columns, values, ridge=s * len(values) * usual**2, centre=start)
            for s in ridge_strengths
        ]


def _weigh_ties(
    columns: Floats, values: Floats, ties: Sequence[Floats], prior_samples: float, folds: npt.NDArray[np.int_]
) -> Floats:
    """[ties] Weight of each tie by its error on held-out samples; sharper with more of them, and 1 in sum."""
    scores = np.empty(len(ties))
    for i, tie in enumerate(ties):
        errors = np.empty(len(values))
        for fold in range(N_FOLDS):
            test = folds == fold
            coefficients = _fit_tied(columns[~test], values[~test], tie, prior_samples)
            errors[test] = columns[test] @ coefficients / values[test] - 1
        scores[i] = _clipped_error(errors)
    weights: Floats = (scores / scores.min()) ** (-_WEIGHT_SHARPNESS * len(values))
    weights /= weights.sum()
    return weights


def _select_ridge_strength(
    columns: Floats, values: Floats, plan: _FitPlan, folds: npt.NDArray[np.int_]
) -> tuple[float | None, Floats]:
    """The strength with the least error on held-out samples, the stiffer of equal ones, and these errors [n]."""
    every: tuple[float | None, ...] = (None, *RIDGE_STRENGTHS)
    errors = np.empty((len(every), len(values)))
    for fold in range(N_FOLDS):
        test = folds == fold
        for i, coefficients in enumerate(plan.fit(columns[~test], values[~test], every)):
            errors[i, test] = columns[test] @ coefficients / values[test] - 1
    best = int(np.argmin([_clipped_error(row) for row in errors]))
    return every[best], errors[best]


def _clipped_error(errors: Floats) -> float:
    """Mean absolute error, clipped for each sample; above 0, because weights divide by it."""
    return max(float(np.mean(np.minimum(np.abs(errors), _ERROR_CLIP))), 1e-6)


def _fit_tied(columns: Floats, values: Floats, tie: Floats, prior_samples: float) -> Floats:
    """[k] Coefficients that move together along the columns of a tie."""
    parts = columns @ tie  # [n, t]: far fewer unknowns than columns
    usual = _mean_contribution(parts, values)
    if prior_samples:
        # Towards multiplier 1, which is the profile's own latency model.
        ridge, centre = prior_samples * usual**2, np.ones(len(usual))
    else:
        ridge, centre = _TIED_RIDGE * len(values) * usual**2, np.zeros(len(usual))
    coefficients: Floats = tie @ _fit_huber(parts, values, ridge=ridge, centre=centre)
    return coefficients


def _mean_contribution(columns: Floats, values: Floats) -> Floats:
    """[k] Mean of column over value, which makes the ridge independent of the units of the columns."""
    mean: Floats = (columns / values[:, None]).mean(axis=0)
    return mean


def _fit_huber(columns: Floats, values: Floats, *, ridge: Floats, centre: Floats) -> Floats:
    """[k] Non-negative coefficients of least relative error (Huber) plus ridge . (coefficients - centre)^2."""
    used = columns.any(axis=0)  # a column that no sample has keeps its centre
    coefficients = centre.copy()
    coefficients[used] = fit_huber_nnls(
        columns[:, used] / values[:, None],
        pull=np.sqrt(np.maximum(ridge[used], 1e-12)),
        centre=centre[used],
        min_scale=_MIN_SCALE,
        iterations=_IRLS_ITERATIONS,
    )
    return coefficients
