"""Uniform random picks: the baseline that any other sampler has to beat."""

import optuna

from nas.searcher.acquisition.base import EMPTY_CONTEXT, SamplerContext


def make(seed: int, context: SamplerContext = EMPTY_CONTEXT) -> optuna.samplers.BaseSampler:
    """A sampler; the same seed asks the same."""
    return optuna.samplers.RandomSampler(seed=seed)
