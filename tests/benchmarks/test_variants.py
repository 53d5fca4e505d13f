"""The default sampler without one of its parts: each part is there, and what it does is not done without it."""

from collections.abc import Callable
from functools import cache
from pkgutil import resolve_name
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import pytest
from optuna.samplers import BaseSampler

from benchmarks._variants import ABLATIONS, ablated_sampler_factory
from nas.searcher.acquisition.candidate_screen import N_CHILDREN, N_GRANDCHILDREN, UNSCREENED_EVERY
from nas.searcher.samplers.screened import N_STARTUP_TRIALS, ScreenedSampler
from tests.searcher.samplers.small_search import SPACE, a_study, cheap, go_on, names

TRIALS = N_STARTUP_TRIALS + 8 * UNSCREENED_EVERY
START_ONLY, LATER = set(range(N_STARTUP_TRIALS)), set(range(N_STARTUP_TRIALS, TRIALS))
JUDGED = {trial for trial in LATER if trial % UNSCREENED_EVERY}


class Seen(NamedTuple):
    """What a search asked, and how it came to it."""

    asked: list[tuple[Any, ...]]
    spread: set[int]
    """Trials that spread out."""
    guessed: set[int]
    """Trials for which values were guessed."""
    doubtful: set[int]
    """Trials whose guesses were more than one number a candidate."""
    bred: set[int]
    """So many children at once were made after the first trials."""


def seen(sampler: BaseSampler) -> Seen:
    study = a_study(sampler)
    found = Seen([], set(), set(), set(), set())

    def note(name: str, told: Callable[..., None]) -> Any:
        real = resolve_name(name)

        def noting(*arguments: Any, **more: Any) -> Any:
            told(len(study.trials) - 1, *arguments)
            return real(*arguments, **more)

        return patch(name, noting)

    def drawn(trial: int, draws: np.ndarray, *_: Any) -> None:
        found.guessed.add(trial)
        found.doubtful.update({trial} if np.ptp(draws, axis=0).max() > 0 else ())

    def bred(trial: int, parents: Any, n: int, *_: Any) -> None:
        found.bred.update({n} if trial in LATER else ())

    with (
        note("nas.searcher.acquisition.expected_improvement.gains", drawn),
        note("nas.searcher.acquisition.candidate_screen.offspring", bred),
        note("nas.searcher.acquisition.candidate_screen.level", lambda trial, *_: found.spread.add(trial)),
    ):
        found.asked.extend(names(go_on(study, TRIALS)))
    return found


@cache
def usual() -> Seen:
    return seen(ScreenedSampler(seed=0, space=SPACE, known_objectives=cheap))


def variant(part: str) -> Seen:
    return seen(ablated_sampler_factory(part, space=SPACE, cheap=cheap)(0))


CHANGED: dict[str, tuple[int, dict[str, set[int]]]] = {
    "random-start": (0, {"spread": set()}),
    "no-surrogate": (min(JUDGED), {"guessed": set(), "doubtful": set(), "bred": {N_CHILDREN}}),
    "no-uncertainty": (min(JUDGED), {"doubtful": set()}),
    "no-variation": (N_STARTUP_TRIALS, {"bred": {N_GRANDCHILDREN}}),
    "one-generation": (min(JUDGED), {"bred": {N_CHILDREN, 1}}),
    "no-exploration": (min(LATER - JUDGED), {"guessed": LATER, "doubtful": LATER}),
}
"""Without the part: the earliest trial that may be another, and what is seen other than of the whole sampler."""


def test_the_whole_sampler_does_all_that_the_parts_do() -> None:
    assert usual().spread == START_ONLY - {0}  # the first trial is the end of the one objective that is known
    assert usual().guessed == usual().doubtful == JUDGED
    assert usual().bred == {N_CHILDREN, N_GRANDCHILDREN}


def test_taking_nothing_out_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        ABLATIONS, "nothing", ("nas.searcher.acquisition.candidate_screen.UNSCREENED_EVERY", UNSCREENED_EVERY)
    )
    assert variant("nothing") == usual()


def test_every_part_is_tested() -> None:
    assert CHANGED.keys() == ABLATIONS.keys()


@pytest.mark.parametrize("part", ABLATIONS)
def test_a_part_is_taken_out_and_nothing_else_before_it(part: str) -> None:
    first, changed = CHANGED[part]
    found = variant(part)
    assert found.asked[:first] == usual().asked[:first]
    assert found.asked != usual().asked
    rest = {name: getattr(usual(), name) for name in Seen._fields[1:]}
    assert {name: getattr(found, name) for name in rest} == rest | changed
