"""Uniform random picks: the baseline that any other sampler has to beat."""

import optuna


def make(seed: int) -> optuna.samplers.BaseSampler:
    """A sampler; the same seed asks the same."""
    return optuna.samplers.RandomSampler(seed=seed)
