"""What a search may tell its sampler: the space, and what is known of a pick before it is evaluated.

A sampler's file ends with `make(seed, known)`. Samplers that only learn from what they are told ignore `known`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from optuna.distributions import BaseDistribution

from nas.searcher.acquisition.cache import SamplerCache

Floats = npt.NDArray[np.float64]
Picks = Sequence[Mapping[str, Any]]
PriorTrials = tuple[Picks, npt.ArrayLike] | tuple[Picks, npt.ArrayLike, npt.ArrayLike]
"""Picks and their values, and if wanted their first looks."""

EXHAUSTED = "nas:exhausted"
"""System attribute of a trial that repeats a pick, as the sampler has found no other."""
LOW_FIDELITY = "look"
"""User attribute of a trial: its objective values [m] at a first look, None where there was nothing to see."""
LOW_FIDELITY_ONLY = "look_only"
"""User attribute of a trial: True where training stopped early; its look is learned then, and not what it is told."""


@dataclass(frozen=True, kw_only=True)
class SamplerContext:
    """Knowledge of picks. Every function takes a list of picks (mappings from gene to value), and may be None.

    Attributes:
        space: gene to distribution; empty where it is not known yet.
        cheap: objective values [n, m] in the study's units and order, NaN where they need an evaluation.
        doubt: [n, m] standard deviations of the logarithm of `cheap`; 0 for what is exact.
        chance: [n] probability 0..1 that the limits on what is cheap are kept.
        features: [n, d] numbers that describe the picks beside their genes.
        allowed: [n] bool; what is not allowed is never asked.
        identity: [n] hashable names; picks of one name are one candidate and are asked once.
        effort: share of the usual number of candidates that are looked at for each trial.
        earlier: picks that were evaluated elsewhere, and their values [k, m], NaN where nothing was learned; if wanted
            also what first looks at them gave [k, m], NaN without one.
        memory: of the samplers that one study makes in turn; None where each begins a new one.
    """

    space: Mapping[str, BaseDistribution] = field(default_factory=dict)
    known_objectives: Callable[[Picks], npt.ArrayLike] | None = None
    log_std: Callable[[Picks], npt.ArrayLike] | None = None
    feasibility: Callable[[Picks], npt.ArrayLike] | None = None
    features: Callable[[Picks], npt.ArrayLike] | None = None
    allowed: Callable[[Picks], npt.ArrayLike] | None = None
    identity: Callable[[Picks], Sequence[Any]] | None = None
    prior_trials: Callable[[], PriorTrials] | None = None
    pool_scale: float = 1.0
    cache: SamplerCache | None = None


EMPTY_CONTEXT = SamplerContext()
