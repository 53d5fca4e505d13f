"""Non-negative least squares, against scipy's and closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize

from nas.latency.predicted.nnls import nnls


@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 20))
def test_the_residual_equals_that_of_scipy(seed: int, rows: int, columns: int) -> None:
    random = np.random.default_rng(seed)
    matrix, values = random.normal(size=(rows, columns)), random.normal(size=rows)
    found, (_, residual) = nnls(matrix, values), optimize.nnls(matrix, values)
    assert (found >= 0).all()
    assert np.linalg.norm(matrix @ found - values) == pytest.approx(residual, rel=1e-6, abs=1e-4)


@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 20))
def test_a_start_changes_the_rounds_and_not_the_solution(seed: int, rows: int, columns: int) -> None:
    random = np.random.default_rng(seed)
    matrix = np.concatenate([random.normal(size=(rows, columns)), np.diag(np.full(columns, 1e-2))])
    values = random.normal(size=rows + columns)
    for start in (random.random(columns), random.random(columns) * (random.random(columns) < 0.5)):
        assert nnls(matrix, values, start=start) == pytest.approx(nnls(matrix, values), rel=1e-9, abs=1e-12)


def test_a_unique_solution_is_found() -> None:
    matrix = np.random.default_rng(0).random((40, 6))
    planted = np.array([0.0, 2.0, 0.0, 1e-4, 5.0, 300.0])
    assert nnls(matrix, matrix @ planted) == pytest.approx(planted, rel=1e-5, abs=1e-5)


def test_units_do_not_matter() -> None:
    matrix = np.random.default_rng(1).random((20, 4))
    units = np.array([1e-9, 1.0, 1e6, 1e12])
    values = matrix @ np.array([1.0, 0.0, 2.0, 3.0])
    assert nnls(matrix * units, values) * units == pytest.approx(nnls(matrix, values), rel=1e-5, abs=1e-6)


def test_dependent_and_empty_columns_are_solved() -> None:
    column = np.random.default_rng(2).random(10)
    matrix = np.stack([column, column, 2 * column, np.zeros(10)], axis=1)
    found = nnls(matrix, 3 * column)
    assert matrix @ found == pytest.approx(3 * column)
    assert found[3] == 0


def test_a_column_that_would_be_negative_is_zero() -> None:
    assert nnls(np.eye(2), np.array([1.0, -1.0])).tolist() == pytest.approx([1.0, 0.0])
