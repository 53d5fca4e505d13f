"""What a candidate is worth: the hypervolume it may be expected to add, times how likely it is feasible.

Expected hypervolume improvement (Emmerich, Giannakoglou & Naujoks 2006, https://doi.org/10.1109/TEVC.2005.859463), here
the mean over a few evenly spread quantiles of the guessed objectives; known ones are exact. More is better everywhere.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nas.intervals import normal_cdf, normal_quantile
from nas.pareto import non_dominated, spread
from nas.searcher.acquisition.gaussian_process import Posterior, fit
from nas.searcher.acquisition.hypervolume_improvement import hypervolume_improvement, non_dominated_boxes
from nas.searcher.acquisition.low_fidelity import LowFidelityFeatures, log_from_best
from nas.searcher.acquisition.subsample import newest_and_spread

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

N_QUANTILES = 8
REFERENCE_MARGIN = 0.1
"""How far the reference point lies behind the worst values, in units of the values' range."""
MAX_FRONT_SIZE = {1: 1, 2: 200, 3: 50}
"""Most members of the front that gains are computed against, by number of objectives; 16 with more."""
MAX_FEASIBILITY_TRIALS = 200
"""Trials that a guess of feasibility is learned from."""
FEASIBILITY_FLOOR, FEASIBILITY_STD_FLOOR = 1e-3, 0.1
"""Of a guess of feasibility: smallest probability, and smallest standard deviation."""


@dataclass(frozen=True, kw_only=True)
class Observations:
    """What was asked.

    Attributes:
        cheap: [n, m] known objectives, NaN where unknown.
        genes: [n, d] features of the genes, each 0..1.
        described: [n, e] further features, of any size.
        values: [n, m], NaN where unknown.
        done: [n], whether `values` holds.
        broken: [n], whether it turned out infeasible.
        elsewhere: [n], whether it was evaluated in another search: what its values tell is learned, but it is on no
            front.
        looks: [n, m] values at a first look, NaN without one.
        stopped: [n], whether that look was all. None of the four means that it is still running.
    """

    known_objectives: Floats
    gene_features: Floats
    candidate_features: Floats
    values: Floats
    is_feasible: Mask
    is_infeasible: Mask
    is_prior: Mask
    low_fidelity_values: Floats
    is_low_fidelity_only: Mask


class ExpectedImprovement:
    """Judges candidates by what was learned from examples, of which two or more are done."""

    def __init__(self, observations: Observations) -> None:
        e = self._observations = observations
        self._n_objectives = e.values.shape[1]
        rows = np.flatnonzero(e.is_feasible)
        self._modelled = np.flatnonzero(~np.isfinite(e.known_objectives[rows]).all(axis=0))
        self._known = np.setdiff1d(np.arange(self._n_objectives), self._modelled)
        self._scale_known = _standardizer(e.known_objectives[rows][:, self._known], take_logarithm=True)
        self._scale_candidate_features = _standardizer(e.candidate_features[rows], take_logarithm=False)
        x = self._model_inputs(e.known_objectives, e.gene_features, e.candidate_features)
        self._low_fidelity = LowFidelityFeatures(x, e.low_fidelity_values[:, self._modelled])
        x = np.concatenate([x, self._low_fidelity.train_features], axis=1)
        self._models = [self._fit_objective(x, int(j)) for j in self._modelled]
        self._feasibility_model: Callable[[Floats], Posterior] | None = None
        if e.is_infeasible.any():
            told = newest_and_spread(
                np.flatnonzero(e.is_feasible | e.is_infeasible | e.is_low_fidelity_only), MAX_FEASIBILITY_TRIALS
            )
            self._feasibility_model = fit(x[told], (~e.is_infeasible[told]).astype(np.float64))
        self._set_front(x)

    def __call__(
        self, known_objectives: Floats, gene_features: Floats, candidate_features: Floats, *, log_std: Floats
    ) -> Floats:
        """Worth [k] of candidates, 0 or more; the arguments have k rows of what `Observations` has n rows of.

        `log_std` [k, m] holds standard deviations of the logarithm of known objectives.
        """
        x = self._model_inputs(known_objectives, gene_features, candidate_features)
        x = np.concatenate([x, self._low_fidelity(x)], axis=1)
        draws = self._quantile_draws(known_objectives, x, log_std)
        gain = hypervolume_improvement((draws - self._reference) / self._scale, self._boxes).mean(axis=0)
        if self._feasibility_model is not None:
            found = self._feasibility_model(x)
            normal = (found.mean - 0.5) / np.sqrt(found.std**2 + FEASIBILITY_STD_FLOOR**2)
            gain = gain * np.maximum(normal_cdf(normal), FEASIBILITY_FLOOR)
        return np.asarray(gain)

    def _fit_objective(self, x: Floats, objective: int) -> Callable[[Floats], Callable[[float], Floats]]:
        e = self._observations
        values = e.values[:, objective]
        rows = e.is_feasible | (e.is_prior & np.isfinite(values))
        return _fit_log_from_best(x[rows], values[rows])

    def _set_front(self, x: Floats) -> None:
        e, m = self._observations, self._n_objectives
        values = e.values[e.is_feasible]
        points = values
        running = ~(e.is_feasible | e.is_infeasible | e.is_prior | e.is_low_fidelity_only)
        if running.any():
            points = np.concatenate([points, self._posterior_means(e.known_objectives[running], x[running])])
        elsewhere = np.where(np.isnan(e.values), e.known_objectives, e.values)[e.is_prior]
        range_of = np.concatenate([values, elsewhere[np.isfinite(elsewhere).all(axis=1)]])
        low, high = range_of.min(axis=0), range_of.max(axis=0)
        front = points[non_dominated(points, [True] * m)]
        self._scale = np.maximum(high - low, 1e-12 * np.maximum(1.0, np.abs(high)))
        self._reference = low - REFERENCE_MARGIN * self._scale
        limit = MAX_FRONT_SIZE.get(m, 16)
        if len(front) > limit:
            front = front[spread(front, [True] * m, limit)]
        self._boxes = non_dominated_boxes((front - self._reference) / self._scale, np.zeros(m))

    def _posterior_means(self, known_objectives: Floats, x: Floats) -> Floats:
        means = known_objectives.copy()
        for j, guesser in zip(self._modelled, self._models, strict=True):
            means[:, j] = guesser(x)(0.0)
        return means

    def _quantile_draws(self, known_objectives: Floats, x: Floats, log_std: Floats) -> Floats:
        """Draws [s, k, m] of the objectives."""
        draws = np.repeat(known_objectives[None], N_QUANTILES, axis=0)
        quantiles = _normal_quantiles(self._n_objectives)
        for k, j in enumerate(self._known, start=len(self._modelled)):
            draws[:, :, j] *= np.exp(quantiles[:, k, None] * log_std[None, :, j])
        for k, (j, guesser) in enumerate(zip(self._modelled, self._models, strict=True)):
            value = guesser(x)
            for s in range(N_QUANTILES):
                draws[s, :, j] = value(float(quantiles[s, k]))
        return draws

    def _model_inputs(self, known_objectives: Floats, gene_features: Floats, candidate_features: Floats) -> Floats:
        """All that is known of a candidate, on one scale."""
        known = self._scale_known(known_objectives[:, self._known])
        return np.concatenate(
            [gene_features, np.nan_to_num(self._scale_candidate_features(candidate_features)), np.nan_to_num(known)],
            axis=1,
        )


def _fit_log_from_best(x: Floats, values: Floats) -> Callable[[Floats], Callable[[float], Floats]]:
    """A guesser of values by how they lie on a logarithmic scale that stretches the good end.

    Returns:
        Features to a function that gives the value at so many standard deviations above the mean.
    """
    stretch, top = log_from_best(values)
    guess = fit(x, stretch)

    def at(asked: Floats) -> Callable[[float], Floats]:
        found = guess(asked)
        return lambda deviations: top - np.exp(np.minimum(-found.mean - deviations * found.std, 300.0))

    return at


def _standardizer(observations: Floats, *, take_logarithm: bool) -> Callable[[Floats], Floats]:
    """A scaling of columns to mean 0 and deviation 1/2 of the examples; of logarithms where all have one sign."""
    signs = np.where((observations < 0).all(axis=0), -1.0, 1.0)
    logs = (observations * signs > 0).all(axis=0) & take_logarithm

    def raw(v: Floats) -> Floats:
        return np.where(logs, np.log(np.maximum(v * signs, 1e-300)), v) if logs.any() else v

    centre, spread = raw(observations).mean(axis=0), raw(observations).std(axis=0)
    scale = 2 * np.where(spread > 1e-12, spread, 1.0)
    return lambda v: (raw(v) - centre) / scale


def _normal_quantiles(n: int) -> Floats:
    """Draws [s, n] of standard normals, evenly spread in each column; columns are shuffled against each other."""
    line = np.array([normal_quantile((i + 0.5) / N_QUANTILES) for i in range(N_QUANTILES)])
    rng = np.random.default_rng(0)
    return np.stack([line, *(rng.permutation(line) for _ in range(n - 1))], axis=1)
