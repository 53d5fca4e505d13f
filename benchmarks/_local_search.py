"""Pareto local search, the rival without a model: in a file of its own, so that its replays outlast changes of ours."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler

from nas.pareto import non_dominated


class LocalSearch(BaseSampler):
    """Ten random points, then one gene of a random member of the archive changed, never twice."""

    def __init__(self, space: Mapping[str, BaseDistribution], seed: int) -> None:
        self._space, self._seed = dict(space), seed

    def infer_relative_search_space(self, study: optuna.Study, trial: Any) -> dict[str, BaseDistribution]:
        """The whole space."""
        return self._space

    def sample_relative(self, study: optuna.Study, trial: Any, search_space: dict[str, BaseDistribution]) -> Any:
        """A neighbour of a member of the archive."""
        rng = np.random.default_rng([self._seed, trial.number])
        old = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        asked = {tuple(t.params[n] for n in self._space) for t in old}
        feasible = [t for t in old if all(v <= 0 for v in t.constraints.values())]
        points = np.array([t.values for t in feasible])
        if len(old) < 10 or not len(points):
            return {n: self._sample_gene(n, rng) for n in self._space}
        front = np.flatnonzero(non_dominated(points, [d.name == "MAXIMIZE" for d in study.directions]))
        for _ in range(100):
            picked = dict(feasible[rng.choice(front)].params)
            name = str(rng.choice(list(self._space)))
            picked[name] = self._sample_gene(name, rng)
            if tuple(picked[n] for n in self._space) not in asked:
                break
        return picked

    def sample_independent(self, study: optuna.Study, trial: Any, param_name: str, param_distribution: Any) -> Any:
        """A random value; never needed here."""
        return self._sample_gene(param_name, np.random.default_rng([self._seed, trial.number]))

    def _sample_gene(self, name: str, rng: np.random.Generator) -> Any:
        random = RandomSampler(seed=int(rng.integers(2**31)))
        return random.sample_independent(None, None, name, self._space[name])  # type: ignore[arg-type]
