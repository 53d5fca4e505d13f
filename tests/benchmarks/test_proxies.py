"""The figures of the proxy benchmark: lost front members, and held-out correlation with more features."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.proxies import count_lost, held_out_correlation, replace_non_finite

VALUES = np.array([5.0, 1.0, 2.0, 8.0, 7.0, 3.0, 9.0, 4.0, 6.0, 0.0])  # a fifth of ten rows: 9 and 1


@pytest.mark.parametrize(("members", "n_lost"), [([9, 1], 2), ([1, 2, 6], 1), ([2, 6], 0), (range(10), 2)])
def test_front_members_in_the_lowest_fifth_are_lost(members: list[int], n_lost: int) -> None:
    front = np.isin(np.arange(10), members)
    assert count_lost(front, VALUES) == n_lost
    assert count_lost(front, 100 * VALUES - 7) == n_lost, "only the order matters"


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=40))
def test_lost_members_match_a_sorted_list(rows: list[tuple[int, bool]]) -> None:
    values, front = np.array([float(value) for value, _ in rows]), np.array([member for _, member in rows])
    ordered = sorted(range(len(rows)), key=lambda i: rows[i][0])
    dropped = [i for place, i in enumerate(ordered) if 5 * place < len(rows)]
    assert count_lost(front, values) == sum(rows[i][1] for i in dropped)


def test_non_finite_values_rank_lowest() -> None:
    values = VALUES.copy()
    values[[3, 6]] = [np.nan, np.inf]
    found = replace_non_finite(values)
    assert found[3] == found[6] == -1.0
    assert count_lost(np.isin(np.arange(10), [3, 6]), found) == 2


def test_held_out_correlation_measures_informative_features() -> None:
    rng = np.random.default_rng(0)
    noise, informative = rng.normal(size=(80, 5)), rng.normal(size=(80, 2))
    accuracy = informative @ [1.0, -2.0]
    assert held_out_correlation(np.hstack([noise, informative]), accuracy) > 0.95
    assert abs(held_out_correlation(noise, accuracy)) < 0.3
