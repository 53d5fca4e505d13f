"""Gaussian process: predictions, likelihoods and leave-one-out means against direct computations."""

import itertools

import numpy as np
import pytest

from nas.searcher.acquisition.gaussian_process import (
    LENGTH_SCALES,
    LINEAR_SHARES,
    NOISE_VARIANCES,
    SMALL_MATRIX_ROWS,
    _invert_lower_triangular,
    _kernel,
    _select_hyperparameters,
    fit,
)


def test_the_posterior_is_accurate_and_wider_far_from_observations() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((60, 5))
    y = 3 * x[:, 0] - 2 * x[:, 1] + x[:, 2] * x[:, 3]
    new = rng.random((200, 5))
    truth = 3 * new[:, 0] - 2 * new[:, 1] + new[:, 2] * new[:, 3]
    known, unknown, far = (fit(x, y)(z) for z in (x, new, new + 3))
    assert np.corrcoef(unknown.mean, truth)[0, 1] > 0.98
    assert np.abs(known.mean - y).mean() < np.abs(unknown.mean - truth).mean()
    assert known.std.mean() < unknown.std.mean() < far.std.mean()
    inside = np.abs(unknown.mean - truth) < 2 * unknown.std
    assert inside.mean() > 0.8


def test_noise_is_predicted_as_its_mean_and_a_constant_exactly() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.random((80, 4)), rng.normal(size=80)
    noise = fit(x, y)(rng.random((50, 4)))
    assert np.abs(noise.mean).max() < 1.2
    constant = fit(x, np.full(80, 7.0))(x[:3])
    assert constant.mean.tolist() == [7.0] * 3
    assert constant.std.tolist() == [0.0] * 3


@pytest.mark.parametrize("n", [2, 3])
def test_few_observations_give_a_finite_posterior(n: int) -> None:
    found = fit(np.eye(3)[:n], np.arange(n, dtype=float))(np.eye(3))
    assert np.isfinite(found.mean).all()
    assert np.isfinite(found.std).all()


def test_hyperparameters_have_the_largest_likelihood_of_the_grid() -> None:
    rng = np.random.default_rng(3)
    for noise in (0.01, 0.5):
        x = rng.random((30, 3))
        y = np.sin(4 * x[:, 0]) + x[:, 1] + rng.normal(0, noise, 30)
        y = (y - y.mean()) / y.std()
        found = {}
        for length, share, level in itertools.product(LENGTH_SCALES, LINEAR_SHARES, NOISE_VARIANCES):
            covariance = _kernel(x, x, length, share) + level * np.eye(30)
            amplitude = float(y @ np.linalg.solve(covariance, y)) / 30
            likelihood = -0.5 * (30 * np.log(amplitude) + np.linalg.slogdet(covariance).logabsdet)
            found[length, share, level] = (likelihood, amplitude)
        best = max(found, key=lambda setting: found[setting][0])
        *setting, amplitude = _select_hyperparameters(x, y)
        assert tuple(setting) == best
        assert amplitude == pytest.approx(found[best][1], rel=1e-9)


@pytest.mark.parametrize("n", [1, SMALL_MATRIX_ROWS, SMALL_MATRIX_ROWS + 1, 3 * SMALL_MATRIX_ROWS + 1])
def test_the_inverse_of_a_triangular_matrix(n: int) -> None:
    lower = np.tril(np.random.default_rng(n).normal(size=(n, n)), -1) / n + np.eye(n)
    np.testing.assert_allclose(_invert_lower_triangular(lower) @ lower, np.eye(n), atol=1e-12)


def test_leave_one_out_means_are_those_of_refitted_models() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((40, 3))
    y = x[:, 0] + 0.5 * x[:, 1] ** 2 + rng.normal(0, 0.1, 40)
    found = fit(x, y)
    in_sample = found(x).mean
    refitted = np.array([fit(np.delete(x, i, 0), np.delete(y, i))(x[i : i + 1]).mean[0] for i in range(40)])
    assert np.corrcoef(found.loo_mean - y, refitted - y)[0, 1] > 0.9  # each refit has feature weights of its own
    assert np.abs(in_sample - y).mean() < np.abs(found.loo_mean - y).mean()
    assert fit(x, np.full(40, 3.0)).loo_mean.tolist() == [3.0] * 40
