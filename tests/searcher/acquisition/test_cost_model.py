"""Cost model: predictions after few observations against known costs."""

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
    initial_memory_coefficients,
    initial_size_coefficients,
)
from nas.targets.catalog import load_targets

TRUE = np.array([3.0, 0.5, 0.0, 2.0])
INITIAL = np.array([0.1, 0.1, 0.1, 0.1])


def examples(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cost columns with 1 in front, features of which the first has an effect, and values without noise."""
    rng = np.random.default_rng(seed)
    columns = np.concatenate([np.ones((n, 1)), rng.integers(0, 20, (n, 3))], axis=1)
    features = np.stack([rng.integers(0, 2, n), rng.normal(size=n), np.full(n, 7.0)], axis=1)
    return columns, features, columns @ TRUE * np.where(features[:, 0] > 0, 1.3, 1.0)


def test_without_observations_the_initial_coefficients_predict() -> None:
    columns, features, _ = examples(5)
    found = fit_cost_model(columns[:0], features[:0], np.zeros(0), initial_coefficients=INITIAL)(columns, features)
    np.testing.assert_allclose(found.log_mean, np.log(columns @ INITIAL))
    assert found.log_std.tolist() == [PRIOR_LOG_STD] * 5


def test_one_observation_sets_the_scale_and_keeps_the_proportions() -> None:
    columns, features, _ = examples(6)
    found = fit_cost_model(columns[:1], features[:1], 50 * columns[:1] @ INITIAL, initial_coefficients=INITIAL)(
        columns, features
    )
    np.testing.assert_allclose(found.log_mean, np.log(50 * columns @ INITIAL), rtol=1e-3)
    assert (found.log_std > 0.3).all()


def test_more_observations_reduce_error_and_standard_deviation() -> None:
    columns, features, values = examples(400)
    errors, deviations = [], []
    for n in (4, 20, 100):
        found = fit_cost_model(columns[:n], features[:n], values[:n], initial_coefficients=INITIAL)(
            columns[200:], features[200:]
        )
        errors.append(float(np.median(np.abs(found.log_mean - np.log(values[200:])))))
        deviations.append(float(found.log_std.mean()))
    assert errors[0] > errors[1] > errors[2]
    assert deviations[0] > deviations[1] > deviations[2]
    assert errors[2] < 0.02
    assert MIN_LOG_STD <= deviations[2] < 0.1


def test_the_standard_deviation_grows_away_from_the_observations() -> None:
    columns, features, values = examples(60)
    predict = fit_cost_model(columns, features, values, initial_coefficients=INITIAL)
    near, far = (predict(columns[:1], np.array([[0.5, shift, 7.0]])).log_std[0] for shift in (0.0, 40.0))
    assert far > 1.5 * near


@settings(max_examples=40, deadline=None)
@given(n=st.integers(0, 30), seed=st.integers(0, 1000), scale=st.sampled_from([1e-6, 1.0, 1e9]))
def test_any_observations_give_finite_predictions(n: int, seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    columns = np.concatenate([np.ones((n + 5, 1)), rng.integers(0, 3, (n + 5, 3))], axis=1)
    features = rng.integers(0, 2, (n + 5, 4)).astype(float)
    values = scale * np.exp(rng.normal(size=n))
    found = fit_cost_model(columns[:n], features[:n], values, initial_coefficients=INITIAL)(columns, features)
    assert np.isfinite(found.log_mean).all()
    assert (found.log_std >= MIN_LOG_STD).all()
    assert (found.log_std <= PRIOR_LOG_STD).all()


def test_a_subsampled_history_still_predicts_well() -> None:
    columns, features, values = examples(4 * MAX_EXAMPLES)
    found = fit_cost_model(columns, features, values, initial_coefficients=INITIAL)(columns, features)
    assert np.median(np.abs(found.log_mean - np.log(values))) < 0.02


@pytest.mark.parametrize("name", sorted(load_targets()))
def test_initial_latencies_are_positive_and_grow_with_bits(name: str) -> None:
    coefficients = dict(zip(COST_COLUMNS, initial_latency_coefficients(load_targets()[name]), strict=True))
    assert all(coefficient > 0 for coefficient in coefficients.values())
    for part in ("dense_macs", "pointwise_macs", "depthwise_macs", "elements"):
        assert [coefficients[f"{part}{bits}"] for bits in BIT_WIDTHS] == sorted(
            coefficients[f"{part}{bits}"] for bits in BIT_WIDTHS
        )


def test_initial_memory_follows_the_bits_of_weights_and_activations() -> None:
    coefficients = dict(zip(COST_COLUMNS, initial_memory_coefficients(), strict=True))
    assert [coefficients[f"weights{bits}"] for bits in BIT_WIDTHS] == [1, 2, 4]
    assert [6 * coefficients[f"elements{bits}"] for bits in BIT_WIDTHS] == [1, 2, 4]
    assert all(coefficient > 0 for coefficient in coefficients.values())


def test_initial_sizes_of_weights_follow_their_bits() -> None:
    coefficients = dict(zip(COST_COLUMNS, initial_size_coefficients(), strict=True))
    assert [coefficients[f"weights{bits}"] for bits in BIT_WIDTHS] == [1, 2, 4]
