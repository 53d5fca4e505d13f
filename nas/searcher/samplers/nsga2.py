"""NSGA-II, https://doi.org/10.1109/4235.996017 (Optuna's), with a population of 20.

The default of 50 spends the first fifty candidates on random ones, more than many searches have in all.
"""

import optuna

from nas.searcher.acquisition.base import EMPTY_CONTEXT, SamplerContext


def make(seed: int, context: SamplerContext = EMPTY_CONTEXT) -> optuna.samplers.BaseSampler:
    """A sampler; the same seed on the same history asks the same."""
    return optuna.samplers.NSGAIISampler(seed=seed, population_size=20)
