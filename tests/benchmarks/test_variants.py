"""Ablations of the default sampler: each part is active in it, and inactive in the ablation without it."""

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
SCREENED = {trial for trial in LATER if trial % UNSCREENED_EVERY}


class Observation(NamedTuple):
    """Proposals of a search, and how they were made."""

    proposals: list[tuple[Any, ...]]
    space_filling: set[int]
    """Trials with a space-filling proposal."""
    predicted: set[int]
    """Trials in which the surrogate predicted candidates."""
    uncertain: set[int]
    """Trials with predictive uncertainty, that is with differing draws."""
    n_offspring: set[int]
    """Numbers of offspring made at once after the first trials."""


def observe(sampler: BaseSampler) -> Observation:
    study = a_study(sampler)
    found = Observation([], set(), set(), set(), set())

    def note(name: str, told: Callable[..., None]) -> Any:
        real = resolve_name(name)

        def noting(*arguments: Any, **more: Any) -> Any:
            told(len(study.trials) - 1, *arguments)
            return real(*arguments, **more)

        return patch(name, noting)

    def drawn(trial: int, draws: np.ndarray, *_: Any) -> None:
        found.predicted.add(trial)
        found.uncertain.update({trial} if np.ptp(draws, axis=0).max() > 0 else ())

    def n_offspring(trial: int, parents: Any, n: int, *_: Any) -> None:
        found.n_offspring.update({n} if trial in LATER else ())

    with (
        note("nas.searcher.acquisition.expected_improvement.hypervolume_improvement", drawn),
        note("nas.searcher.acquisition.candidate_screen.offspring", n_offspring),
        note(
            "nas.searcher.acquisition.candidate_screen.van_der_corput", lambda trial, *_: found.space_filling.add(trial)
        ),
    ):
        found.proposals.extend(names(go_on(study, TRIALS)))
    return found


@cache
def full_sampler() -> Observation:
    return observe(ScreenedSampler(seed=0, space=SPACE, known_objectives=cheap))


def variant(part: str) -> Observation:
    return observe(ablated_sampler_factory(part, space=SPACE, known_objectives=cheap)(0))


CHANGED: dict[str, tuple[int, dict[str, set[int]]]] = {
    "random-start": (0, {"space_filling": set()}),
    "no-surrogate": (min(SCREENED), {"predicted": set(), "uncertain": set(), "n_offspring": {N_CHILDREN}}),
    "no-uncertainty": (min(SCREENED), {"uncertain": set()}),
    "no-variation": (N_STARTUP_TRIALS, {"n_offspring": {N_GRANDCHILDREN}}),
    "one-generation": (min(SCREENED), {"n_offspring": {N_CHILDREN, 1}}),
    "no-exploration": (min(LATER - SCREENED), {"predicted": LATER, "uncertain": LATER}),
}
"""By ablation: the earliest trial that may differ, and the observations that differ from the full sampler's."""


def test_all_parts_are_active_in_the_full_sampler() -> None:
    assert full_sampler().space_filling == START_ONLY - {0}  # the first trial is the extreme of the one known objective
    assert full_sampler().predicted == full_sampler().uncertain == SCREENED
    assert full_sampler().n_offspring == {N_CHILDREN, N_GRANDCHILDREN}


def test_an_ablation_of_nothing_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        ABLATIONS, "nothing", ("nas.searcher.acquisition.candidate_screen.UNSCREENED_EVERY", UNSCREENED_EVERY)
    )
    assert variant("nothing") == full_sampler()


def test_every_ablation_is_tested() -> None:
    assert CHANGED.keys() == ABLATIONS.keys()


@pytest.mark.parametrize("part", ABLATIONS)
def test_an_ablation_removes_its_part_only(part: str) -> None:
    first, changed = CHANGED[part]
    found = variant(part)
    assert found.proposals[:first] == full_sampler().proposals[:first]
    assert found.proposals != full_sampler().proposals
    rest = {name: getattr(full_sampler(), name) for name in Observation._fields[1:]}
    assert {name: getattr(found, name) for name in rest} == rest | changed
