"""Huber's loss: equal to least squares without outliers, unmoved by outliers, and pulled by the ridge."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.latency.predicted.huber_nnls import fit_huber_nnls
from nas.latency.predicted.nnls import nnls

PLANTED = np.array([0.5, 0.0, 2.0])
FREE = np.full(3, 1e-6)


def relative_columns(n: int, seed: int = 0) -> np.ndarray:
    """Columns [n, 3] divided by their latency under `PLANTED`."""
    columns = np.random.default_rng(seed).uniform(0.1, 1, (n, 3))
    return columns / (columns @ PLANTED)[:, None]


def fit(relative: np.ndarray, pull: np.ndarray = FREE, centre: np.ndarray | None = None) -> np.ndarray:
    centre = np.zeros(3) if centre is None else centre
    return fit_huber_nnls(relative, pull=pull, centre=centre, min_scale=0.005, iterations=5)


def test_planted_coefficients_are_recovered() -> None:
    assert fit(relative_columns(20)) == pytest.approx(PLANTED, abs=1e-4)


def test_small_errors_give_least_squares() -> None:
    noise = np.random.default_rng(1).uniform(0.999, 1.001, 30)  # all within twice the least scale
    relative = relative_columns(30) * noise[:, None]
    assert fit(relative) == pytest.approx(nnls(relative, np.ones(30)), abs=1e-6)


def test_outliers_do_not_move_the_coefficients() -> None:
    relative = relative_columns(40)
    relative[::8] /= 10  # five latencies that are ten times too long
    assert fit(relative) == pytest.approx(PLANTED, abs=0.002)
    assert np.abs(nnls(relative, np.ones(40)) - PLANTED).max() > 0.03, "least squares follows them"


def test_a_strong_ridge_keeps_the_centre() -> None:
    centre = np.array([1.0, 2.0, 3.0])
    assert fit(relative_columns(20), np.full(3, 1e4), centre) == pytest.approx(centre, rel=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_no_coefficient_is_negative(seed: int) -> None:
    relative = np.random.default_rng(seed).normal(size=(12, 3))
    assert (fit(relative) >= 0).all()
