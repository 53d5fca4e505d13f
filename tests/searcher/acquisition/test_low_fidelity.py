"""Low-fidelity features of candidates with and without a low-fidelity value."""

import numpy as np

from nas.searcher.acquisition.low_fidelity import MAX_OBSERVATIONS, LowFidelityFeatures, log_from_best


def test_features_predict_candidates_without_a_low_fidelity_value() -> None:
    rng = np.random.default_rng(2)
    x = rng.random((90, 4))
    truth = x @ [1.0, -1.0, 0.5, 0.0]
    values = np.stack([np.where(np.arange(90) < 60, truth, np.nan), np.full(90, np.nan)], axis=1)
    found = LowFidelityFeatures(x, values)
    assert found.train_features.shape == (90, 1)
    assert np.corrcoef(found.train_features[:, 0], truth)[0, 1] > 0.98
    np.testing.assert_allclose(found(x[60:]), found.train_features[60:])
    assert LowFidelityFeatures(x[:4], values[:4])(x).shape == (90, 0)  # too few to learn from


def test_features_of_more_values_than_are_fitted() -> None:
    rng = np.random.default_rng(4)
    x = rng.random((MAX_OBSERVATIONS + 60, 3))
    truth = x @ [1.0, -1.0, 0.5]
    found = LowFidelityFeatures(x, truth[:, None]).train_features[:, 0]
    assert np.corrcoef(found, truth)[0, 1] > 0.99


def test_log_from_best_keeps_the_order_and_is_inverted_by_its_top() -> None:
    values = np.array([0.1, 0.7, 0.65, 0.72, 0.3])
    transformed, top = log_from_best(values)
    np.testing.assert_allclose(top - np.exp(-transformed), values)
    assert top == 0.72 + (0.72 - 0.65)  # as far above the best as that is above the median
    assert np.argsort(transformed).tolist() == np.argsort(values).tolist()


def test_equal_values_have_a_finite_logarithm() -> None:
    transformed, top = log_from_best(np.full(4, 0.5))
    assert np.isfinite(transformed).all()
    assert top > 0.5
