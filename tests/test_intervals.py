"""Intervals of a median against textbook ranks, against their own promise, and on runs that hang together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.intervals import MAX_VALUES_AT_ONCE, bootstrap_median_interval, rank_median_interval


def test_ranks_are_those_of_the_textbook() -> None:
    # Conover's ranks for n = 100 are 40 and 61, counted from 1.
    assert rank_median_interval(np.random.default_rng(0).permutation(100).astype(np.float64) + 1) == (40, 61)


@pytest.mark.parametrize(("interval", "times"), [(rank_median_interval, 1000), (bootstrap_median_interval, 200)])
def test_the_true_median_is_within_as_often_as_promised(interval, times) -> None:  # type: ignore[no-untyped-def]
    random = np.random.default_rng(0)
    found = [interval(random.lognormal(0, 1, 200)) for _ in range(times)]
    assert 0.92 <= np.mean([low <= 1 <= high for low, high in found]) <= 0.99


def test_runs_of_a_round_that_hang_together_widen_the_bootstrap_alone() -> None:
    random = np.random.default_rng(0)
    held: dict[str, list[bool]] = {"bootstrap": [], "ranks": []}
    for _ in range(200):
        states = random.normal(1, 0.02, (15, 1))  # of the machine, one in each round
        times = (states + random.normal(0, 0.005, (15, 20))).ravel()
        for name, (low, high) in {
            "bootstrap": bootstrap_median_interval(times, 15),
            "ranks": rank_median_interval(times),
        }.items():
            held[name].append(low <= 1 <= high)
    assert np.mean(held["bootstrap"]) >= 0.9
    assert np.mean(held["ranks"]) < 0.6


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=60), st.integers(1, 60))
def test_the_median_lies_within_and_the_runs_around(times: list[float], rounds: int) -> None:
    array = np.array(times)
    low, high = bootstrap_median_interval(array, min(rounds, len(times)))
    assert min(times) <= low <= np.median(array) <= high <= max(times)


def test_the_same_runs_have_the_same_interval_drawn_at_once_or_not() -> None:
    times = np.random.default_rng(0).lognormal(0, 0.1, MAX_VALUES_AT_ONCE // 250)
    assert bootstrap_median_interval(times, 10) == bootstrap_median_interval(times.copy(), 10)
    low, high = bootstrap_median_interval(times, len(times))
    assert 0.98 < low < 1 < high < 1.02


def test_a_single_run_is_its_own_interval() -> None:
    assert bootstrap_median_interval(np.array([2.0])) == (2.0, 2.0)
