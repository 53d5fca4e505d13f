"""Additive fit: planted coefficients, outliers, ties, priors and resamples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.latency.predicted.additive_fit import fit_additive

PRICES = np.array([20.0, 3.0, 0.0, 7.0])
FREE = [np.eye(4)]


def columns(rows: int, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).uniform(1, 30, (rows, 4))
    found[:, 0] = 1
    return found


def test_planted_coefficients_are_recovered() -> None:
    x = columns(40)
    found = fit_additive(x, x @ PRICES, FREE)
    assert found.coefficients == pytest.approx(PRICES, rel=0.01, abs=0.05)
    assert np.abs(found.held_out_errors).max() < 0.01


def test_outliers_do_not_move_the_coefficients() -> None:
    x = columns(40)
    values = x @ PRICES
    values[::8] *= 4
    found = fit_additive(x, values, FREE)
    assert np.median(np.abs(x @ found.coefficients / (x @ PRICES) - 1)) < 0.03


def test_the_tie_that_holds_gets_the_weight() -> None:
    x = columns(30)
    true, false = np.array([[1, 0, 0, 0], [0, 1, 0, 2.0]]).T, np.array([[1, 0, 0, 0], [0, 1.0, 5, 0]]).T
    found = fit_additive(x, x @ (true @ np.array([20.0, 3.0])), [false, true])
    assert found.tie_weights[1] > 0.99
    assert found.coefficients == pytest.approx([20, 3, 0, 6], rel=0.02, abs=0.05)


def test_few_samples_stay_near_the_prior() -> None:
    x = columns(6)
    prior = np.diag(PRICES)[:, [0, 1, 3]]
    found = fit_additive(x, 1.1 * (x @ PRICES), [prior], prior_samples=2.0)
    assert found.coefficients == pytest.approx(1.1 * PRICES, rel=0.1, abs=0.01)


def test_a_column_that_no_sample_has_keeps_the_coefficient_of_its_tie() -> None:
    x = columns(20)
    x[:, 3] = 0
    tie = np.array([[1.0, 0], [0, 3], [0, 0], [0, 7]])
    found = fit_additive(x, x @ PRICES, [tie])
    assert found.coefficients[3] == pytest.approx(7, rel=0.05)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_no_coefficient_is_negative(seed: int) -> None:
    random = np.random.default_rng(seed)
    found = fit_additive(columns(12, seed), random.uniform(1, 100, 12), FREE, n_resamples=3)
    assert (found.coefficients >= 0).all()
    assert (found.bootstrap_coefficients >= 0).all()
    assert found.bootstrap_coefficients.shape == (3, 4)


def test_equal_seeds_give_equal_resamples() -> None:
    x, noise = columns(20), np.random.default_rng(5).normal(1, 0.1, 20)
    one, same = (fit_additive(x, x @ PRICES * noise, FREE, seed=3) for _ in range(2))
    assert one.bootstrap_coefficients.tolist() == same.bootstrap_coefficients.tolist()


@pytest.mark.parametrize("values", [np.ones(4), np.array([1, 1, 1, 1, 0.0])])
def test_too_few_or_impossible_latencies_are_refused(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match="5 latencies or more, all positive"):
        fit_additive(columns(len(values)), values, FREE)
