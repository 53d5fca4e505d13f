"""NSGA-II with a population of 20, https://doi.org/10.1109/4235.996017 (Optuna's).

Optuna's default population of 50 makes the first 50 candidates random, which is more than many searches have in all.
"""

import optuna

from nas.searcher.acquisition.base import EMPTY_CONTEXT, SamplerContext


def make(seed: int, context: SamplerContext = EMPTY_CONTEXT) -> optuna.samplers.BaseSampler:
    """A sampler; the same seed on the same history gives the same proposals."""
    return optuna.samplers.NSGAIISampler(seed=seed, population_size=20)
