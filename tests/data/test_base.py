"""Splits: evenly spread rows."""

import numpy as np
import pytest

from nas.data.base import Split


@pytest.mark.parametrize(
    ("n_images", "max_rows", "rows"),
    [(9, 3, [0, 4, 8]), (10, 4, [0, 3, 6, 9]), (3, 5, [0, 1, 2]), (4, 1, [0])],
)
def test_rows_are_spread_from_the_first_to_the_last(n_images: int, max_rows: int, rows: list[int]) -> None:
    split = Split(images=np.zeros((n_images, 1, 2, 2), np.uint8), labels=np.zeros(n_images, np.int64))

    assert split.evenly_spread_rows(max_rows).tolist() == rows
