"""Costs learned from few examples, against costs that are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.searcher.acquisition.candidate_features import COLUMNS, WIDTHS
from nas.searcher.acquisition.cost_model import LEAST_DEVIATION, MOST, UNSURE, latency_prices, learn_costs, size_prices
from nas.targets.catalog import targets

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
    found = learn_costs(columns[:0], traits[:0], np.zeros(0), prices=ROUGH)(columns, traits)
    np.testing.assert_allclose(found.mean, np.log(columns @ ROUGH))
    assert found.deviation.tolist() == [UNSURE] * 5


def test_one_example_sets_the_scale_and_keeps_the_proportions() -> None:
    columns, traits, _ = examples(6)
    found = learn_costs(columns[:1], traits[:1], 50 * columns[:1] @ ROUGH, prices=ROUGH)(columns, traits)
    np.testing.assert_allclose(found.mean, np.log(50 * columns @ ROUGH), rtol=1e-3)
    assert (found.deviation > 0.3).all()


def test_more_examples_find_the_prices_and_what_else_acts() -> None:
    columns, traits, values = examples(400)
    errors, doubts = [], []
    for n in (4, 20, 100):
        found = learn_costs(columns[:n], traits[:n], values[:n], prices=ROUGH)(columns[200:], traits[200:])
        errors.append(float(np.median(np.abs(found.mean - np.log(values[200:])))))
        doubts.append(float(found.deviation.mean()))
    assert errors[0] > errors[1] > errors[2]
    assert doubts[0] > doubts[1] > doubts[2]
    assert errors[2] < 0.02
    assert LEAST_DEVIATION <= doubts[2] < 0.1


def test_what_is_far_from_all_examples_is_doubted_more() -> None:
    columns, traits, values = examples(60)
    guess = learn_costs(columns, traits, values, prices=ROUGH)
    near, far = (guess(columns[:1], np.array([[0.5, shift, 7.0]])).deviation[0] for shift in (0.0, 40.0))
    assert far > 1.5 * near


@settings(max_examples=40, deadline=None)
@given(n=st.integers(0, 30), seed=st.integers(0, 1000), scale=st.sampled_from([1e-6, 1.0, 1e9]))
def test_any_examples_give_finite_guesses(n: int, seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    columns = np.concatenate([np.ones((n + 5, 1)), rng.integers(0, 3, (n + 5, 3))], axis=1)
    traits = rng.integers(0, 2, (n + 5, 4)).astype(float)
    values = scale * np.exp(rng.normal(size=n))
    found = learn_costs(columns[:n], traits[:n], values, prices=ROUGH)(columns, traits)
    assert np.isfinite(found.mean).all()
    assert (found.deviation >= LEAST_DEVIATION).all()
    assert (found.deviation <= max(UNSURE, 4.0)).all()


def test_a_long_history_is_thinned_and_still_right() -> None:
    columns, traits, values = examples(4 * MOST)
    found = learn_costs(columns, traits, values, prices=ROUGH)(columns, traits)
    assert np.median(np.abs(found.mean - np.log(values))) < 0.02


@pytest.mark.parametrize("name", sorted(targets()))
def test_every_target_has_rough_prices_and_more_bits_cost_no_less(name: str) -> None:
    prices = dict(zip(COLUMNS, latency_prices(targets()[name]), strict=True))
    assert all(price > 0 for price in prices.values())
    for part in ("dense_macs", "pointwise_macs", "depthwise_macs", "elements"):
        assert [prices[f"{part}{bits}"] for bits in WIDTHS] == sorted(prices[f"{part}{bits}"] for bits in WIDTHS)


def test_rough_sizes_are_those_of_weights() -> None:
    prices = dict(zip(COLUMNS, size_prices(), strict=True))
    assert [prices[f"weights{bits}"] for bits in WIDTHS] == [1, 2, 4]
