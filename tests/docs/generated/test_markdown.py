"""Markdown of generated pages."""

import pytest

from docs.generated.markdown import table


def test_a_cell_stays_on_one_line_and_its_bars_are_escaped() -> None:
    assert table(["a"], [["x | y\nz"]]).splitlines() == ["| a |", "|---|", "| x \\| y z |"]


def test_a_row_of_another_length_is_an_error() -> None:
    with pytest.raises(ValueError, match="a row must have 2 cells, but has 1: x"):
        table(["a", "b"], [["x"]])
