"""Uniform random picks: the baseline that any other sampler has to beat."""

import optuna

from nas.searcher.acquisition.base import NOTHING, Known


def make(seed: int, known: Known = NOTHING) -> optuna.samplers.BaseSampler:
    """A sampler; the same seed asks the same."""
    return optuna.samplers.RandomSampler(seed=seed)
