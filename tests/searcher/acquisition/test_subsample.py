"""Subsampling: the newest half whole, the others evenly spaced, in order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.searcher.acquisition.subsample import newest_and_spread


def test_half_are_the_newest_and_half_are_spread() -> None:
    assert newest_and_spread(np.arange(1000), 10).tolist() == [0, 248, 497, 745, 994, 995, 996, 997, 998, 999]


@pytest.mark.parametrize("n", [5, 6])
def test_few_rows_are_all_kept(n: int) -> None:
    assert newest_and_spread(np.arange(5), n).tolist() == [0, 1, 2, 3, 4]


@given(st.integers(1, 60), st.integers(1, 300))
def test_rows_are_at_most_n_in_order_and_distinct(n: int, rows: int) -> None:
    found = newest_and_spread(np.arange(rows) * 3, n)
    assert len(found) == min(n, rows)
    assert (np.diff(found) > 0).all()
    assert found[-1] == (rows - 1) * 3
