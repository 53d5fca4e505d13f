"""Tree-structured Parzen estimator over all genes at once, https://arxiv.org/abs/2304.11127 (Optuna's).

`multivariate=True` has to be said: with several objectives Optuna's default models each gene alone and then repeats
nearly half of its proposals in a discrete space.
"""

import optuna

from nas.searcher.acquisition.base import EMPTY_CONTEXT, SamplerContext


def make(seed: int, context: SamplerContext = EMPTY_CONTEXT) -> optuna.samplers.BaseSampler:
    """A sampler; the same seed on the same history asks the same."""
    return optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=12)
