"""Samplers that a benchmark compares, by name; each is made from a seed and, for ours, what is known of picks."""

from collections.abc import Callable, Mapping
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

from benchmarks._local_search import LocalSearch
from benchmarks._variants import ABLATIONS, ablated_sampler_factory
from nas.searcher.samplers.screened import ScreenedSampler


def sampler_factories(space: Mapping[str, BaseDistribution], **known: Any) -> dict[str, Callable[[int], BaseSampler]]:
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
        "screened-genes-only": lambda seed: ScreenedSampler(seed=seed, space=space, **cheap_only),
        "screened-blind": lambda seed: ScreenedSampler(seed=seed, space=space),
        **{f"screened-{part}": ablated_sampler_factory(part, space=space, **known) for part in ABLATIONS},
    }
