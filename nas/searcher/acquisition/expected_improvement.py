"""Expected hypervolume improvement of candidates, times their probability of feasibility.

    EHVI(x) = E[HVI(y(x) | P, r)]

for the front P and the reference point r: Emmerich, Giannakoglou & Naujoks 2006
(https://doi.org/10.1109/TEVC.2005.859463). Here the expectation is the mean over a few stratified quantiles of the
predicted objectives, and known objectives enter with their exact values. With one objective this is expected
improvement. Every objective is maximised here.
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
from nas.searcher.acquisition.trial_history import TrialOutcomes

Floats = npt.NDArray[np.float64]

N_QUANTILES = 8
"""Quantiles of each objective that the expectation is the mean over."""
REFERENCE_MARGIN = 0.1
"""Distance of the reference point behind the worst values, in units of the values' range. Without a margin the ends of
the front would have no hypervolume of their own."""
MAX_FRONT_SIZE = {1: 1, 2: 200, 3: 50}
"""Upper limit on the members of the front, by number of objectives; 16 with more. The number of boxes is linear in it
for two objectives and quadratic for three."""
MAX_FEASIBILITY_TRIALS = 200
"""Trials that the model of feasibility is fitted to."""
FEASIBILITY_FLOOR, FEASIBILITY_STD_FLOOR = 1e-3, 0.1
"""Lower limits of a predicted probability of feasibility, and of the standard deviation it follows from. A model of few
trials must not exclude a region for good."""


@dataclass(frozen=True, kw_only=True)
class Observations:
    """Inputs and outcomes of n trials, oldest first.

    Attributes:
        known_objectives: [n, m] objectives that need no evaluation, maximised; NaN where unknown.
        gene_features: [n, d] features of the genes, each 0..1.
        candidate_features: [n, e] further features, on any scale.
        outcomes: of the same trials.
    """

    known_objectives: Floats
    gene_features: Floats
    candidate_features: Floats
    outcomes: TrialOutcomes


class ExpectedImprovement:
    """Acquisition function, fitted to observations of which two or more are feasible.

    An objective that is known for every feasible trial is taken as known; each of the others has a Gaussian process.
    """

    def __init__(self, observations: Observations) -> None:
        e, outcomes = observations, observations.outcomes
        self._observations = observations
        self._n_objectives = outcomes.values.shape[1]
        rows = np.flatnonzero(outcomes.is_feasible)
        self._modelled = np.flatnonzero(~np.isfinite(e.known_objectives[rows]).all(axis=0))
        self._known = np.setdiff1d(np.arange(self._n_objectives), self._modelled)
        self._scale_known = _standardizer(e.known_objectives[rows][:, self._known], take_logarithm=True)
        self._scale_candidate_features = _standardizer(e.candidate_features[rows], take_logarithm=False)
        x = self._model_inputs(e.known_objectives, e.gene_features, e.candidate_features)
        self._low_fidelity = LowFidelityFeatures(x, outcomes.low_fidelity_values[:, self._modelled])
        x = np.concatenate([x, self._low_fidelity.train_features], axis=1)
        self._models = [self._fit_objective(x, int(j)) for j in self._modelled]
        self._feasibility_model: Callable[[Floats], Posterior] | None = None
        if outcomes.is_infeasible.any():
            # Regression on the labels 0 and 1 (least squares classification, Rasmussen & Williams, section 6.5), which
            # needs no approximate inference.
            decided = outcomes.is_feasible | outcomes.is_infeasible | outcomes.is_low_fidelity_only
            fitted = newest_and_spread(np.flatnonzero(decided), MAX_FEASIBILITY_TRIALS)
            self._feasibility_model = fit(x[fitted], (~outcomes.is_infeasible[fitted]).astype(np.float64))
        self._set_front(x)

    def __call__(
        self, known_objectives: Floats, gene_features: Floats, candidate_features: Floats, *, log_std: Floats
    ) -> Floats:
        """Acquisition values of candidates.

        Args:
            known_objectives: [k, m], as in `Observations`.
            gene_features: [k, d].
            candidate_features: [k, e].
            log_std: [k, m] standard deviations of the logarithm of the known objectives; 0 for exact ones.

        Returns:
            [k], 0 or more; in units of the hypervolume of the box that the ranges of the values span.
        """
        x = self._model_inputs(known_objectives, gene_features, candidate_features)
        x = np.concatenate([x, self._low_fidelity(x)], axis=1)
        draws = self._quantile_draws(known_objectives, x, log_std)
        improvement = hypervolume_improvement((draws - self._reference) / self._scale, self._boxes).mean(axis=0)
        if self._feasibility_model is not None:
            label = self._feasibility_model(x)
            # The probability that the latent label exceeds 1/2.
            normal = (label.mean - 0.5) / np.sqrt(label.std**2 + FEASIBILITY_STD_FLOOR**2)
            improvement = improvement * np.maximum(normal_cdf(normal), FEASIBILITY_FLOOR)
        return np.asarray(improvement)

    def _fit_objective(self, x: Floats, objective: int) -> Callable[[Floats], Callable[[float], Floats]]:
        outcomes = self._observations.outcomes
        values = outcomes.values[:, objective]
        rows = outcomes.is_feasible | (outcomes.is_prior & np.isfinite(values))
        return _fit_log_from_best(x[rows], values[rows])

    def _set_front(self, x: Floats) -> None:
        """The boxes, in units in which the reference point is 0 and the range of each objective 1."""
        e, outcomes, m = self._observations, self._observations.outcomes, self._n_objectives
        values = outcomes.values[outcomes.is_feasible]
        points = values
        running = outcomes.is_running
        if running.any():
            # Kriging believer (Ginsbourger et al. 2010, https://doi.org/10.1007/978-3-642-10701-6_6): a running trial
            # counts with its posterior mean, so workers that ask at once propose different candidates.
            points = np.concatenate([points, self._posterior_means(e.known_objectives[running], x[running])])
        prior = np.where(np.isnan(outcomes.values), e.known_objectives, outcomes.values)[outcomes.is_prior]
        range_of = np.concatenate([values, prior[np.isfinite(prior).all(axis=1)]])
        low, high = range_of.min(axis=0), range_of.max(axis=0)
        front = points[non_dominated(points, [True] * m)]
        # Equal values have no range; the bound keeps the division finite.
        self._scale = np.maximum(high - low, 1e-12 * np.maximum(1.0, np.abs(high)))
        self._reference = low - REFERENCE_MARGIN * self._scale
        limit = MAX_FRONT_SIZE.get(m, 16)
        if len(front) > limit:
            front = front[spread(front, [True] * m, limit)]
        self._boxes = non_dominated_boxes((front - self._reference) / self._scale, np.zeros(m))

    def _posterior_means(self, known_objectives: Floats, x: Floats) -> Floats:
        """[k, m] The known objectives, with the others at the transformed posterior mean."""
        means = known_objectives.copy()
        for j, model in zip(self._modelled, self._models, strict=True):
            means[:, j] = model(x)(0.0)
        return means

    def _quantile_draws(self, known_objectives: Floats, x: Floats, log_std: Floats) -> Floats:
        """Draws [s, k, m] of the objectives; a known one with a standard deviation is log-normal around its value."""
        draws = np.repeat(known_objectives[None], N_QUANTILES, axis=0)
        quantiles = _normal_quantiles(self._n_objectives)
        for k, j in enumerate(self._known, start=len(self._modelled)):
            draws[:, :, j] *= np.exp(quantiles[:, k, None] * log_std[None, :, j])
        for k, (j, model) in enumerate(zip(self._modelled, self._models, strict=True)):
            value = model(x)
            for s in range(N_QUANTILES):
                draws[s, :, j] = value(float(quantiles[s, k]))
        return draws

    def _model_inputs(self, known_objectives: Floats, gene_features: Floats, candidate_features: Floats) -> Floats:
        """[n, d + e + known] Features of the models, on one scale; an unknown one is 0, its mean."""
        known = self._scale_known(known_objectives[:, self._known])
        return np.concatenate(
            [gene_features, np.nan_to_num(self._scale_candidate_features(candidate_features)), np.nan_to_num(known)],
            axis=1,
        )


def _fit_log_from_best(x: Floats, values: Floats) -> Callable[[Floats], Callable[[float], Floats]]:
    """A Gaussian process of the values [n] of features x [n, d] under the transform `log_from_best`.

    Returns:
        Features [k, d] to a function that gives the values [k] at so many standard deviations above the mean.
    """
    transformed, top = log_from_best(values)
    model = fit(x, transformed)

    def quantiles(queries: Floats) -> Callable[[float], Floats]:
        posterior = model(queries)
        # The inverse of the transform; exp overflows above 709, and a value at 300 improves nothing anyway.
        return lambda deviations: top - np.exp(np.minimum(-posterior.mean - deviations * posterior.std, 300.0))

    return quantiles


def _standardizer(observations: Floats, *, take_logarithm: bool) -> Callable[[Floats], Floats]:
    """A map of columns to mean 0 and standard deviation 1/2, fitted to observations [n, d].

    A standard deviation of 1/2 gives columns about the spread of gene features, which lie in 0..1. Latencies and sizes
    vary by factors, so a column whose values all have one sign is standardised as a logarithm if that is wanted.
    """
    signs = np.where((observations < 0).all(axis=0), -1.0, 1.0)
    logs = (observations * signs > 0).all(axis=0) & take_logarithm

    def raw(v: Floats) -> Floats:
        return np.where(logs, np.log(np.maximum(v * signs, 1e-300)), v) if logs.any() else v

    centre, spread = raw(observations).mean(axis=0), raw(observations).std(axis=0)
    scale = 2 * np.where(spread > 1e-12, spread, 1.0)
    return lambda v: (raw(v) - centre) / scale


def _normal_quantiles(n: int) -> Floats:
    """Stratified draws [s, n] of independent standard normals: each column holds the midpoint quantiles once.

    The columns are permuted against each other (Latin hypercube), by a fixed seed, so an acquisition value is a
    function of the history alone and all candidates share their draws.
    """
    line = np.array([normal_quantile((i + 0.5) / N_QUANTILES) for i in range(N_QUANTILES)])
    rng = np.random.default_rng(0)
    return np.stack([line, *(rng.permutation(line) for _ in range(n - 1))], axis=1)
