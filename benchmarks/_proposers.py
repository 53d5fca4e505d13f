"""Samplers that a benchmark compares, by name; each is made from a seed and, for ours, what is known of picks."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

from benchmarks._variants import PARTS, without
from nas.pareto import non_dominated
from nas.samplers.screened import ScreenedSampler


class LocalSearch(BaseSampler):
    """Pareto local search: ten random points, then one gene of a random member of the archive changed, never twice."""

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
            return {n: self._any(n, rng) for n in self._space}
        front = np.flatnonzero(non_dominated(points, [d.name == "MAXIMIZE" for d in study.directions]))
        for _ in range(100):
            picked = dict(feasible[rng.choice(front)].params)
            name = str(rng.choice(list(self._space)))
            picked[name] = self._any(name, rng)
            if tuple(picked[n] for n in self._space) not in asked:
                break
        return picked

    def sample_independent(self, study: optuna.Study, trial: Any, param_name: str, param_distribution: Any) -> Any:
        """A random value; never needed here."""
        return self._any(param_name, np.random.default_rng([self._seed, trial.number]))

    def _any(self, name: str, rng: np.random.Generator) -> Any:
        random = RandomSampler(seed=int(rng.integers(2**31)))
        return random.sample_independent(None, None, name, self._space[name])  # type: ignore[arg-type]


def proposers(space: Mapping[str, BaseDistribution], **known: Any) -> dict[str, Callable[[int], BaseSampler]]:
    """Name to maker. `known` is what `ScreenedSampler` takes; the variant "blind" gets none of it.

    Behind "screened-" stand what our sampler has to do without: see `benchmarks._variants`.
    """
    cheap_only = {k: v for k, v in known.items() if k in ("cheap", "allowed")}
    return {
        "random": lambda seed: RandomSampler(seed=seed),
        "tpe": lambda seed: TPESampler(seed=seed),
        "tpe-multivariate": lambda seed: TPESampler(seed=seed, multivariate=True),
        "nsga2": lambda seed: NSGAIISampler(seed=seed),
        "nsga2-20": lambda seed: NSGAIISampler(seed=seed, population_size=20),
        "gp": lambda seed: GPSampler(seed=seed),
        "local-search": lambda seed: LocalSearch(space, seed),
        "screened": lambda seed: ScreenedSampler(seed=seed, space=space, **known),
        "screened-genes": lambda seed: ScreenedSampler(seed=seed, space=space, **cheap_only),
        "screened-blind": lambda seed: ScreenedSampler(seed=seed, space=space),
        **{f"screened-{part}": without(part, space=space, **known) for part in PARTS},
    }
