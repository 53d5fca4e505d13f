"""Sampler contract: what a search knows about params before they are evaluated, handed to the sampler that it makes.

The file of a sampler ends with `make(seed, context)`. A sampler that learns from finished trials alone ignores
`context`.

Params are what Optuna calls so: a mapping from gene (parameter name) to value.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt
from optuna.distributions import BaseDistribution

from nas.searcher.acquisition.cache import SamplerCache

Params = Mapping[str, Any]
ParamsList = Sequence[Params]
PriorTrials = tuple[ParamsList, npt.ArrayLike] | tuple[ParamsList, npt.ArrayLike, npt.ArrayLike]
"""Params and their values [k, m], and optionally their low-fidelity values [k, m]."""

EXHAUSTED = "nas:exhausted"
"""System attribute of a trial that repeats earlier params, because the sampler found no others."""
KEY = "key"
"""User attribute of a trial: what `SamplerContext.identity` gives for its params, as a search stores it."""
LOW_FIDELITY = "look"
"""User attribute of a trial: its objective values [m] at low fidelity, None where there is none."""
LOW_FIDELITY_ONLY = "look_only"
"""User attribute of a trial: True where training stopped at low fidelity; the sampler then ignores its final values."""


@dataclass(frozen=True, kw_only=True)
class SamplerContext:
    """Knowledge about params. Each function takes a list of n params; None stands for a function that knows nothing.

    Attributes:
        space: gene to distribution; empty where it is not known yet.
        known_objectives: objective values [n, m] that need no evaluation, in the study's units and order; NaN where an
            evaluation is needed.
        log_std: [n, m] standard deviations of the logarithm of the known objectives; 0 for exact ones.
        feasibility: [n] probability 0..1 that the limits on known objectives are kept.
        features: [n, d] numbers that describe params, beside the genes.
        allowed: [n] bool; params that are not allowed are never proposed.
        identity: [n] hashable values; params of equal identity are one candidate, which is proposed once.
        prior_trials: params evaluated in other searches with their values [k, m], NaN where unknown, and optionally
            their low-fidelity values [k, m], NaN where there is none.
        pool_scale: factor on the number of candidates that are screened for each trial.
        cache: shared by the samplers that one study makes in turn; None where each starts with an empty one.
    """

    space: Mapping[str, BaseDistribution] = field(default_factory=dict)
    known_objectives: Callable[[ParamsList], npt.ArrayLike] | None = None
    log_std: Callable[[ParamsList], npt.ArrayLike] | None = None
    feasibility: Callable[[ParamsList], npt.ArrayLike] | None = None
    features: Callable[[ParamsList], npt.ArrayLike] | None = None
    allowed: Callable[[ParamsList], npt.ArrayLike] | None = None
    identity: Callable[[ParamsList], Sequence[Any]] | None = None
    prior_trials: Callable[[], PriorTrials] | None = None
    pool_scale: float = 1.0
    cache: SamplerCache | None = None


EMPTY_CONTEXT = SamplerContext()
