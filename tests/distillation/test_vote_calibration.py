"""Calibration of votes: the regression's closed forms and optimality, and that no label enters its own target."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.distillation.vote_calibration import (
    calibrate_votes,
    cross_fitted_probabilities,
    fit_regression,
    log_loss,
    vote_features,
    vote_shares,
)
from nas.errors import ConfigError


def random_votes(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Ten votes for each of n images among four columns, and labels 0..2 that follow the first three of them."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=n)
    shares = 0.15 + 0.4 * np.eye(4)[labels]
    votes = np.stack([rng.multinomial(10, row / row.sum()) for row in shares]).astype(np.float32)
    return votes, labels


def test_features_are_shares_and_logarithms() -> None:
    features = vote_features(np.array([[3, 1], [0, 0]], np.float32))

    assert np.allclose(features, [[0.75, 0.25, np.log(4), np.log(2)], [0, 0, 0, 0]])


def test_shares_have_half_a_vote_more_for_each_class() -> None:
    shares = vote_shares(np.array([[3, 1, 6]], np.float32), (1, 0, -1))

    assert np.allclose(shares, [[1.5 / 5.5, 3.5 / 5.5, 0.5 / 5.5]])


def test_log_loss_of_known_probabilities() -> None:
    probabilities = np.array([[0.5, 0.5], [0.25, 0.75]], np.float32)

    assert log_loss(probabilities, np.array([0, 1])) == pytest.approx((np.log(2) - np.log(0.75)) / 2)


def test_regression_on_indicators_finds_the_frequencies() -> None:
    # Without a penalty the model is saturated: each pattern gets the frequencies of its labels.
    pattern = np.repeat([0, 1, 2], [10, 20, 40])
    labels = np.concatenate([np.repeat([0, 1], [3, 7]), np.repeat([0, 1, 2], [5, 5, 10]), np.repeat([1, 2], [10, 30])])

    regression = fit_regression(np.eye(3)[pattern], labels, n_classes=3, ridge=1e-9)

    expected = [[0.3, 0.7, 0], [0.25, 0.25, 0.5], [0, 0.25, 0.75]]
    assert np.allclose(regression.predict(np.eye(3)), expected, atol=1e-4)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999), ridge=st.sampled_from([1e-4, 1e-2, 1.0]))
def test_regression_is_the_minimum_of_the_penalised_loss(seed: int, ridge: float) -> None:
    votes, labels = random_votes(40, seed)
    features = vote_features(votes)

    regression = fit_regression(features, labels, n_classes=3, ridge=ridge)

    # The same loss image by image, differentiated by torch. It is convex: no gradient, no lower value.
    scaled = (features - features.mean(0)) / np.where(features.std(0) > 0, features.std(0), 1)
    x = torch.from_numpy(np.concatenate([scaled, np.ones((40, 1))], axis=1))
    weights = torch.tensor(regression.weights, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(x @ weights, torch.from_numpy(labels)) + ridge * weights.square().sum()
    loss.backward()
    assert weights.grad is not None
    assert float(weights.grad.abs().max()) < 1e-4


def test_separable_and_absent_classes_have_finite_probabilities() -> None:
    features = np.array([[0.0], [0.0], [1.0], [1.0]])

    p = fit_regression(features, np.array([0, 0, 1, 1]), n_classes=3).predict(features)

    assert np.isfinite(p).all()
    assert (p > 0).all()
    assert (p.argmax(1) == [0, 0, 1, 1]).all()


def test_no_label_enters_the_target_of_its_image_or_of_an_identical_one() -> None:
    votes, labels = random_votes(60, seed=1)
    groups = np.arange(60) // 2  # pairs of identical images
    before = cross_fitted_probabilities(vote_features(votes), labels, groups, n_classes=3)
    changed = labels.copy()
    changed[[8, 9]] = (changed[[8, 9]] + 1) % 3

    after = cross_fitted_probabilities(vote_features(votes), changed, groups, n_classes=3)

    unchanged = (after == before).all(1)
    assert unchanged[[8, 9]].all()
    assert unchanged.mean() < 0.5  # images of the other folds do learn from it


def test_calibrated_votes_have_the_lower_log_loss() -> None:
    votes, labels = random_votes(600, seed=2)

    # Their annotators call class 0 what the data calls class 2.
    calibrated = calibrate_votes(votes[:, [2, 1, 0, 3]], labels, np.arange(600), class_columns=(0, 1, 2))

    assert calibrated.log_loss_after < 0.7 * calibrated.log_loss_before
    assert calibrated.log_loss_after == log_loss(calibrated.probabilities, labels)
    assert np.allclose(calibrated.probabilities.sum(1), 1, atol=1e-6)


def test_identical_images_alone_are_refused() -> None:
    with pytest.raises(ConfigError, match="votes are calibrated on images that differ, but all 3 training images are"):
        calibrate_votes(np.ones((3, 2), np.float32), np.zeros(3, np.int64), np.zeros(3, np.int64), class_columns=(0, 1))
