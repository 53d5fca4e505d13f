"""Tree-structured Parzen estimator over all genes at once, https://arxiv.org/abs/2304.11127 (Optuna's).

`multivariate=True` is essential: with several objectives Optuna's default models each gene alone, and nearly half of
its proposals in a discrete space are duplicates.
"""

import optuna

from nas.searcher.acquisition.base import EMPTY_CONTEXT, SamplerContext


def make(seed: int, context: SamplerContext = EMPTY_CONTEXT) -> optuna.samplers.BaseSampler:
    """A sampler; the same seed on the same history gives the same proposals."""
    return optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=12)
