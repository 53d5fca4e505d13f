"""Samplers that the search benchmarks compare, by name.

Each is made from a seed; the samplers of this project also take a problem's context (known objectives, features).
"""

from collections.abc import Callable, Mapping
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

from benchmarks._local_search import LocalSearch
from benchmarks._variants import ABLATIONS, ablated_sampler_factory
from nas.searcher.samplers.screened import ScreenedSampler


def sampler_factories(space: Mapping[str, BaseDistribution], **context: Any) -> dict[str, Callable[[int], BaseSampler]]:
    """Factories by sampler name; each takes a seed.

    Args:
        space: gene to distribution.
        context: keyword arguments of `ScreenedSampler` that describe the problem. "screened-genes-only" receives the
            known objectives and the feasibility alone, "screened-blind" nothing.

    The other names that begin with "screened-" are ablations, see `benchmarks._variants`.
    """
    cheap_only = {k: v for k, v in context.items() if k in ("known_objectives", "allowed")}
    return {
        "random": lambda seed: RandomSampler(seed=seed),
        "tpe": lambda seed: TPESampler(seed=seed),
        "tpe-multivariate": lambda seed: TPESampler(seed=seed, multivariate=True),
        "nsga2": lambda seed: NSGAIISampler(seed=seed),
        "nsga2-20": lambda seed: NSGAIISampler(seed=seed, population_size=20),
        "gp": lambda seed: GPSampler(seed=seed),
        "local-search": lambda seed: LocalSearch(space, seed),
        "screened": lambda seed: ScreenedSampler(seed=seed, space=space, **context),
        "screened-genes-only": lambda seed: ScreenedSampler(seed=seed, space=space, **cheap_only),
        "screened-blind": lambda seed: ScreenedSampler(seed=seed, space=space),
        **{f"screened-{part}": ablated_sampler_factory(part, space=space, **context) for part in ABLATIONS},
    }
