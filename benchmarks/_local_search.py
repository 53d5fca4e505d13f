"""Pareto local search, the baseline without a model.

It has a file of its own so that kept replays stay valid when the default sampler changes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler

from nas.pareto import non_dominated


class LocalSearch(BaseSampler):
    """Ten random points, then one mutated gene of a random archive member at a time, without duplicates.

    After 100 mutations that were all evaluated before, the last one is proposed again.
    """

    def __init__(self, space: Mapping[str, BaseDistribution], seed: int) -> None:
        self._space, self._seed = dict(space), seed

    def infer_relative_search_space(self, study: optuna.Study, trial: Any) -> dict[str, BaseDistribution]:
        """The whole space."""
        return self._space

    def sample_relative(self, study: optuna.Study, trial: Any, search_space: dict[str, BaseDistribution]) -> Any:
        """A random point at the start, later an archive member with one gene redrawn."""
        rng = np.random.default_rng([self._seed, trial.number])
        completed = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        evaluated = {tuple(t.params[n] for n in self._space) for t in completed}
        feasible = [t for t in completed if all(v <= 0 for v in t.constraints.values())]
        values = np.array([t.values for t in feasible])
        if len(completed) < 10 or not len(values):
            return {n: self._sample_gene(n, rng) for n in self._space}
        front = np.flatnonzero(non_dominated(values, [d.name == "MAXIMIZE" for d in study.directions]))
        for _ in range(100):
            configuration = dict(feasible[rng.choice(front)].params)
            name = str(rng.choice(list(self._space)))
            configuration[name] = self._sample_gene(name, rng)
            if tuple(configuration[n] for n in self._space) not in evaluated:
                break
        return configuration

    def sample_independent(self, study: optuna.Study, trial: Any, param_name: str, param_distribution: Any) -> Any:
        """A random value; unused, since the relative search space is the whole space."""
        return self._sample_gene(param_name, np.random.default_rng([self._seed, trial.number]))

    def _sample_gene(self, name: str, rng: np.random.Generator) -> Any:
        random = RandomSampler(seed=int(rng.integers(2**31)))
        return random.sample_independent(None, None, name, self._space[name])  # type: ignore[arg-type]
