"""Ablations of the default sampler: each replaces one of its parts by a trivial one, to measure what the part gains.

They are for benchmarks only. A part is patched in the sampler's modules while it proposes.
"""

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from nas.searcher.acquisition.candidate_screen import N_CHILDREN, CandidateScreen
from nas.searcher.acquisition.encoding import Codes
from nas.searcher.acquisition.expected_improvement import N_QUANTILES
from nas.searcher.samplers.screened import ScreenedSampler

NEVER = 10**9


def _random_start(screen: CandidateScreen) -> Codes | None:
    """First trials at random in the place of a spread over the space and over what is known."""
    pool = screen._new_or_enumerated(screen._random_codes(screen._scaled(N_CHILDREN)))
    return np.asarray(pool.likely_feasible().codes[0]) if len(pool) else None


def _random_candidates(screen: CandidateScreen) -> Codes:
    """Random points in the place of children of the archive."""
    return screen._random_codes(screen._scaled(N_CHILDREN))


ABLATIONS: dict[str, tuple[str, Any]] = {
    "random-start": ("nas.searcher.acquisition.candidate_screen.CandidateScreen._space_filling", _random_start),
    "no-surrogate": ("nas.searcher.acquisition.candidate_screen.UNSCREENED_EVERY", 1),
    "no-uncertainty": (
        "nas.searcher.acquisition.expected_improvement._normal_quantiles",
        lambda n: np.zeros((N_QUANTILES, n)),
    ),
    "no-variation": ("nas.searcher.acquisition.candidate_screen.CandidateScreen._candidates", _random_candidates),
    "one-generation": ("nas.searcher.acquisition.candidate_screen.N_GRANDCHILDREN", 1),
    "no-exploration": ("nas.searcher.acquisition.candidate_screen.UNSCREENED_EVERY", NEVER),
}
"""What is taken out: where, and what stands in its place."""


class AblatedSampler(ScreenedSampler):
    """`ScreenedSampler` without one of `PARTS`."""

    def __init__(self, part: str, **given: Any) -> None:
        super().__init__(**given)
        self._part = part

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The genes of the next trial."""
        with patch(*ABLATIONS[self._part]):
            return super().sample_relative(study, trial, search_space)


def ablated_sampler_factory(part: str, **given: Any) -> Callable[[int], ScreenedSampler]:
    """A maker of the sampler without a part, from a seed."""
    return lambda seed: AblatedSampler(part, seed=seed, **given)
