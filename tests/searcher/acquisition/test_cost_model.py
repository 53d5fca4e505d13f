"""Costs learned from few examples, against costs that are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.searcher.acquisition.candidate_features import BIT_WIDTHS, COST_COLUMNS
from nas.searcher.acquisition.cost_model import (
    MAX_EXAMPLES,
    MIN_LOG_STD,
    PRIOR_LOG_STD,
    fit_cost_model,
    initial_latency_coefficients,
    initial_size_coefficients,
)
from nas.targets.catalog import load_targets

TRUE = np.array([3.0, 0.5, 0.0, 2.0])
ROUGH = np.array([0.1, 0.1, 0.1, 0.1])


def examples(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns with 1 in front, traits of which the first acts, and values without noise."""
    rng = np.random.default_rng(seed)
    columns = np.concatenate([np.ones((n, 1)), rng.integers(0, 20, (n, 3))], axis=1)
    traits = np.stack([rng.integers(0, 2, n), rng.normal(size=n), np.full(n, 7.0)], axis=1)
    return columns, traits, columns @ TRUE * np.where(traits[:, 0] > 0, 1.3, 1.0)


def test_without_examples_the_rough_prices_are_all_there_is() -> None:
    columns, traits, _ = examples(5)
    found = fit_cost_model(columns[:0], traits[:0], np.zeros(0), initial_coefficients=ROUGH)(columns, traits)
    np.testing.assert_allclose(found.log_mean, np.log(columns @ ROUGH))
    assert found.log_std.tolist() == [PRIOR_LOG_STD] * 5


def test_one_example_sets_the_scale_and_keeps_the_proportions() -> None:
    columns, traits, _ = examples(6)
    found = fit_cost_model(columns[:1], traits[:1], 50 * columns[:1] @ ROUGH, initial_coefficients=ROUGH)(
        columns, traits
    )
    np.testing.assert_allclose(found.log_mean, np.log(50 * columns @ ROUGH), rtol=1e-3)
    assert (found.log_std > 0.3).all()


def test_more_examples_find_the_prices_and_what_else_acts() -> None:
    columns, traits, values = examples(400)
    errors, doubts = [], []
    for n in (4, 20, 100):
        found = fit_cost_model(columns[:n], traits[:n], values[:n], initial_coefficients=ROUGH)(
            columns[200:], traits[200:]
        )
        errors.append(float(np.median(np.abs(found.log_mean - np.log(values[200:])))))
        doubts.append(float(found.log_std.mean()))
    assert errors[0] > errors[1] > errors[2]
    assert doubts[0] > doubts[1] > doubts[2]
    assert errors[2] < 0.02
    assert MIN_LOG_STD <= doubts[2] < 0.1


def test_what_is_far_from_all_examples_is_doubted_more() -> None:
    columns, traits, values = examples(60)
    guess = fit_cost_model(columns, traits, values, initial_coefficients=ROUGH)
    near, far = (guess(columns[:1], np.array([[0.5, shift, 7.0]])).log_std[0] for shift in (0.0, 40.0))
    assert far > 1.5 * near


@settings(max_examples=40, deadline=None)
@given(n=st.integers(0, 30), seed=st.integers(0, 1000), scale=st.sampled_from([1e-6, 1.0, 1e9]))
def test_any_examples_give_finite_guesses(n: int, seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    columns = np.concatenate([np.ones((n + 5, 1)), rng.integers(0, 3, (n + 5, 3))], axis=1)
    traits = rng.integers(0, 2, (n + 5, 4)).astype(float)
    values = scale * np.exp(rng.normal(size=n))
    found = fit_cost_model(columns[:n], traits[:n], values, initial_coefficients=ROUGH)(columns, traits)
    assert np.isfinite(found.log_mean).all()
    assert (found.log_std >= MIN_LOG_STD).all()
    assert (found.log_std <= max(PRIOR_LOG_STD, 4.0)).all()


def test_a_long_history_is_thinned_and_still_right() -> None:
    columns, traits, values = examples(4 * MAX_EXAMPLES)
    found = fit_cost_model(columns, traits, values, initial_coefficients=ROUGH)(columns, traits)
    assert np.median(np.abs(found.log_mean - np.log(values))) < 0.02


@pytest.mark.parametrize("name", sorted(load_targets()))
def test_every_target_has_rough_prices_and_more_bits_cost_no_less(name: str) -> None:
    prices = dict(zip(COST_COLUMNS, initial_latency_coefficients(load_targets()[name]), strict=True))
    assert all(price > 0 for price in prices.values())
    for part in ("dense_macs", "pointwise_macs", "depthwise_macs", "elements"):
        assert [prices[f"{part}{bits}"] for bits in BIT_WIDTHS] == sorted(
            prices[f"{part}{bits}"] for bits in BIT_WIDTHS
        )


def test_rough_sizes_are_those_of_weights() -> None:
    prices = dict(zip(COST_COLUMNS, initial_size_coefficients(), strict=True))
    assert [prices[f"weights{bits}"] for bits in BIT_WIDTHS] == [1, 2, 4]
