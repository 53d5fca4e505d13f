"""The default sampler with one of its parts taken out, which shows what the part is worth.

Nothing of it is for use: parts are replaced in the modules of the sampler while it draws.
"""

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from nas.searcher.acquisition.candidate_screen import CHILDREN, Screen
from nas.searcher.acquisition.encoding import Codes
from nas.searcher.acquisition.expected_improvement import DRAWS
from nas.searcher.samplers.screened import ScreenedSampler

NEVER = 10**9


def _any_start(screen: Screen) -> Codes | None:
    """First trials at random in the place of a spread over the space and over what is known."""
    pool = screen._fresh(screen._random(screen._some(CHILDREN)))
    return np.asarray(pool.likely().codes[0]) if len(pool) else None


def _strangers(screen: Screen) -> Codes:
    """Random points in the place of children of the archive."""
    return screen._random(screen._some(CHILDREN))


PARTS: dict[str, tuple[str, Any]] = {
    "no-spread": ("nas.searcher.acquisition.candidate_screen.Screen._spread_out", _any_start),
    "no-guesses": ("nas.searcher.acquisition.candidate_screen.UNSCREENED", 1),
    "no-doubt": ("nas.searcher.acquisition.expected_improvement._quantiles", lambda n: np.zeros((DRAWS, n))),
    "no-children": ("nas.searcher.acquisition.candidate_screen.Screen._candidates", _strangers),
    "no-grandchildren": ("nas.searcher.acquisition.candidate_screen.GRANDCHILDREN", 1),
    "always-guessed": ("nas.searcher.acquisition.candidate_screen.UNSCREENED", NEVER),
}
"""What is taken out: where, and what stands in its place."""


class Without(ScreenedSampler):
    """`ScreenedSampler` without one of `PARTS`."""

    def __init__(self, part: str, **given: Any) -> None:
        super().__init__(**given)
        self._part = part

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The genes of the next trial."""
        with patch(*PARTS[self._part]):
            return super().sample_relative(study, trial, search_space)


def without(part: str, **given: Any) -> Callable[[int], ScreenedSampler]:
    """A maker of the sampler without a part, from a seed."""
    return lambda seed: Without(part, seed=seed, **given)
