"""Which examples are learned from: the newest half whole, the others spread evenly, in order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.searcher.acquisition.subsample import newest_and_spread


def test_half_are_the_newest_and_half_spread_over_the_others() -> None:
    assert newest_and_spread(np.arange(1000), 10).tolist() == [0, 248, 497, 745, 994, 995, 996, 997, 998, 999]


@pytest.mark.parametrize("n", [5, 6])
def test_few_are_all_taken(n: int) -> None:
    assert newest_and_spread(np.arange(5), n).tolist() == [0, 1, 2, 3, 4]


@given(st.integers(1, 60), st.integers(1, 300))
def test_no_more_than_asked_in_order_and_none_twice(n: int, rows: int) -> None:
    found = newest_and_spread(np.arange(rows) * 3, n)
    assert len(found) == min(n, rows)
    assert (np.diff(found) > 0).all()
    assert found[-1] == (rows - 1) * 3
