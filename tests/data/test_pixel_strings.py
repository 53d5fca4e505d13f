"""Pixel strings, compared with Python's int()."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.data.pixel_strings import parse_pixels

ROWS = st.lists(st.lists(st.integers(0, 255), min_size=5, max_size=5), min_size=1, max_size=6)


@given(rows=ROWS, gap=st.sampled_from([" ", "  ", " \t"]))
def test_values_equal_int_of_each_word(rows: list[list[int]], gap: str) -> None:
    texts = [gap.join(f"{value}" for value in row) for row in rows]
    assert parse_pixels(texts, count=5).tolist() == rows


def test_leading_zeros_and_outer_spaces() -> None:
    assert parse_pixels([" 007 0 255 ", "0001 2 3"], count=3).tolist() == [[7, 0, 255], [1, 2, 3]]


@given(rows=ROWS, bad=st.sampled_from(["256", "1000", "-1", "1.5", "x", "٣", ""]), data=st.data())
def test_error_names_the_index_of_the_string(rows: list[list[int]], bad: str, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(rows) - 1))
    texts = [" ".join(map(str, row)) for row in rows]
    words = texts[index].split()
    texts[index] = " ".join([*words[:2], bad, *words[3:]])
    reason = rf"an image must have 5 pixels, but got 4|pixels must be .* but got '{bad}'"
    with pytest.raises(ValueError, match=rf"^{index}: ({reason})"):
        parse_pixels(texts, count=5)


def test_one_too_many_and_one_too_few_do_not_cancel_out() -> None:
    with pytest.raises(ValueError, match=r"^0: an image must have 2 pixels, but got 3"):
        parse_pixels(["1 2 3", "4"], count=2)


def test_result_is_bytes() -> None:
    assert parse_pixels(["1 2"], count=2).dtype == np.uint8
