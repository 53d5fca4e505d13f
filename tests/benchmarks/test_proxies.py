"""What the benchmark of proxies reckons: who would be lost, and what a guess with more features is worth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.proxies import bounded, guessed, lost

VALUES = np.array([5.0, 1.0, 2.0, 8.0, 7.0, 3.0, 9.0, 4.0, 6.0, 0.0])  # a fifth of ten rows: 9 and 1


@pytest.mark.parametrize(("members", "gone"), [([9, 1], 2), ([1, 2, 6], 1), ([2, 6], 0), (range(10), 2)])
def test_members_of_the_front_among_the_least_liked_fifth_are_lost(members: list[int], gone: int) -> None:
    front = np.isin(np.arange(10), members)
    assert lost(front, VALUES) == gone
    assert lost(front, 100 * VALUES - 7) == gone, "only the order counts"


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=40))
def test_the_lost_are_those_of_a_sorted_list(rows: list[tuple[int, bool]]) -> None:
    values, front = np.array([float(value) for value, _ in rows]), np.array([member for _, member in rows])
    ordered = sorted(range(len(rows)), key=lambda i: rows[i][0])
    left_out = [i for place, i in enumerate(ordered) if 5 * place < len(rows)]
    assert lost(front, values) == sum(rows[i][1] for i in left_out)


def test_what_has_no_figure_is_liked_least() -> None:
    values = VALUES.copy()
    values[[3, 6]] = [np.nan, np.inf]
    found = bounded(values)
    assert found[3] == found[6] == -1.0
    assert lost(np.isin(np.arange(10), [3, 6]), found) == 2


def test_a_guess_is_worth_what_its_features_tell_of_rows_it_has_not_seen() -> None:
    rng = np.random.default_rng(0)
    noise, telling = rng.normal(size=(80, 5)), rng.normal(size=(80, 2))
    accuracy = telling @ [1.0, -2.0]
    assert guessed(np.hstack([noise, telling]), accuracy) > 0.95
    assert abs(guessed(noise, accuracy)) < 0.3
