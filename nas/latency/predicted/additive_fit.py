"""Fitting a latency that is a sum of non-negative costs, from few samples and with a prior.

    latency = columns . coefficients,  coefficients >= 0,  relative error least

A net of 20 kernels has more columns than a calibration has samples, so the fit has two steps. First the coefficients
move together, as the columns of a `tie` [k, t] say: a prior is a tie whose columns are its parts (fixed, floors,
arithmetic, traffic), and t multipliers are all that is learned. Several ties may be plausible (does the runtime execute
dead branches?): they are averaged by their error on held-out samples, because one alone is often the wrong one of two
that are nearly as good. Then each coefficient may leave the first step's value against a ridge, as stiff as
cross-validation says.

Residuals count as Huber does (Annals of Mathematical Statistics 35(1), 1964): published tables and busy machines both
have outliers of ten and more times the usual error.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nas.latency.predicted.nnls import nnls

Floats = npt.NDArray[np.float64]

RIDGE_STRENGTHS = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003)  # of the second step's ridge
N_FOLDS = 5
N_RESAMPLES = 20
_TIED_RIDGE = 1e-4
_IRLS_ITERATIONS = 4
_ERROR_CLIP = 0.25  # one wild sample must not decide between two models
_WEIGHT_SHARPNESS = 0.5  # how fast a tie loses its say: twice the error weighs 2^(-n/2)


@dataclass(frozen=True, kw_only=True)
class AdditiveFit:
    """What was learned.

    Attributes:
        coefficients: [k], in the unit of the values for one unit of each column.
        resampled: [r, k], the same from bootstrap resamples of the samples.
        shares: [ties] the say that each tie had in the first step; they sum to 1.
        stiffness: of the ridge; None where the tied coefficients were kept.
        errors: [n] relative error of each sample when it was held out, prediction over value minus one.
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
    """Learn non-negative coefficients.

    Args:
        columns: [n, k], what each sample has of every kind of cost.
        values: [n], the measured latencies, positive.
        ties: candidates [k, t] for the first step. A tie may have columns that the samples do not need.
        weight_of_prior: how many samples the multiplier 1 of every part of a tie is worth, 0 where the parts have no
            scale of their own.
        seed: of folds and resamples.
        resamples: of the bootstrap (Efron, Annals of Statistics 7(1), 1979).

    Raises:
        ValueError: fewer than 5 samples, or a value that is not positive.
    """
    if len(values) < N_FOLDS or not np.all(values > 0):
        raise ValueError(
            f"a fit needs {N_FOLDS} latencies or more, all positive, but got {len(values)}, "
            f"least {np.min(values, initial=np.inf):g}; measure more"
        )
    generator = np.random.default_rng(seed)
    folds = generator.permutation(np.arange(len(values)) % N_FOLDS)
    shares = _weigh_ties(columns, values, ties, prior_samples, folds)
    plan = _FitPlan(ties=ties, tie_weights=shares, prior_samples=prior_samples)
    stiffness, errors = _select_ridge_strength(columns, values, plan, folds)

    def learned(rows: npt.NDArray[np.intp]) -> Floats:
        return plan.fit(columns[rows], values[rows], (stiffness,))[0]

    every = np.arange(len(values))
    drawn = [generator.choice(every, len(every)) for _ in range(n_resamples)]
    return AdditiveFit(
        coefficients=learned(every),
        bootstrap_coefficients=np.array([learned(rows) for rows in drawn]).reshape(n_resamples, columns.shape[1]),
        tie_weights=shares,
        ridge_strength=stiffness,
        held_out_errors=errors,
    )


@dataclass(frozen=True, kw_only=True)
class _FitPlan:
    """How to learn from any part of the samples."""

    ties: Sequence[Floats]
    tie_weights: Floats
    prior_samples: float

    def fit(self, columns: Floats, values: Floats, ridge_strengths: Sequence[float | None]) -> list[Floats]:
        """[k] Coefficients for each stiffness."""
        start = np.zeros(columns.shape[1])
        for tie, share in zip(self.ties, self.tie_weights, strict=True):
            if share > 1e-3:
                start += share * _fit_tied(columns, values, tie, self.prior_samples)
        usual = _mean_contribution(columns, values)
        return [
            start if s is None else _fit_huber(columns, values, ridge=s * len(values) * usual**2, centre=start)
            for s in ridge_strengths
        ]


def _weigh_ties(
    columns: Floats, values: Floats, ties: Sequence[Floats], prior_samples: float, folds: npt.NDArray[np.int_]
) -> Floats:
    """[ties] How much each tie is believed: by its error on held-out samples, sharper with more of them."""
    scores = np.empty(len(ties))
    for i, tie in enumerate(ties):
        errors = np.empty(len(values))
        for fold in range(N_FOLDS):
            test = folds == fold
            errors[test] = (
                columns[test] @ _fit_tied(columns[~test], values[~test], tie, prior_samples) / values[test] - 1
            )
        scores[i] = _clipped_error(errors)
    found: Floats = (scores / scores.min()) ** (-_WEIGHT_SHARPNESS * len(values))
    found /= found.sum()
    return found


def _select_ridge_strength(
    columns: Floats, values: Floats, plan: _FitPlan, folds: npt.NDArray[np.int_]
) -> tuple[float | None, Floats]:
    """The stiffness with the least error on held-out samples, and those errors [n]."""
    every: tuple[float | None, ...] = (None, *RIDGE_STRENGTHS)
    errors = np.empty((len(every), len(values)))
    for fold in range(N_FOLDS):
        test = folds == fold
        for i, coefficients in enumerate(plan.fit(columns[~test], values[~test], every)):
            errors[i, test] = columns[test] @ coefficients / values[test] - 1
    best = int(np.argmin([_clipped_error(row) for row in errors]))
    return every[best], errors[best]


def _clipped_error(errors: Floats) -> float:
    return max(float(np.mean(np.minimum(np.abs(errors), _ERROR_CLIP))), 1e-6)


def _fit_tied(columns: Floats, values: Floats, tie: Floats, prior_samples: float) -> Floats:
    """[k] Coefficients that move together."""
    parts = columns @ tie
    usual = _mean_contribution(parts, values)
    if prior_samples:
        ridge, centre = prior_samples * usual**2, np.ones(len(usual))
    else:
        ridge, centre = _TIED_RIDGE * len(values) * usual**2, np.zeros(len(usual))
    found: Floats = tie @ _fit_huber(parts, values, ridge=ridge, centre=centre)
    return found


def _mean_contribution(columns: Floats, values: Floats) -> Floats:
    """[k] What a column usually contributes, so that the ridge is the same in any unit."""
    found: Floats = (columns / values[:, None]).mean(axis=0)
    return found


def _fit_huber(columns: Floats, values: Floats, *, ridge: Floats, centre: Floats) -> Floats:
    """Non-negative coefficients of least relative error (Huber) plus ridge . (coefficients - centre)^2.

    Iteratively reweighted; the scale is the median absolute error, at least half a percent.
    """
    used = columns.any(axis=0)  # what no sample has keeps its centre
    relative = columns[:, used] / values[:, None]
    pull = np.sqrt(np.maximum(ridge[used], 1e-12))
    weights, found = np.ones(len(values)), centre.copy()
    for _ in range(_IRLS_ITERATIONS):
        matrix = np.concatenate([relative * weights[:, None], np.diag(pull)])  # [n + k, k]
        found[used] = nnls(matrix, np.concatenate([weights, pull * centre[used]]))
        errors = np.abs(relative @ found[used] - 1)
        scale = max(1.4826 * float(np.median(errors)), 0.005)
        weights = np.sqrt(np.minimum(1.0, 2 * scale / np.maximum(errors, 1e-12)))
    return found
