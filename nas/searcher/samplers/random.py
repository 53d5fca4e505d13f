"""Random search over uniform params, the baseline of every other sampler."""

import optuna

from nas.searcher.acquisition.base import EMPTY_CONTEXT, SamplerContext


def make(seed: int, context: SamplerContext = EMPTY_CONTEXT) -> optuna.samplers.BaseSampler:
    """A sampler; the same seed gives the same proposals."""
    return optuna.samplers.RandomSampler(seed=seed)
