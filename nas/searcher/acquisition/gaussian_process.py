"""Guesses of values from few examples, with their doubt: a Gaussian process with a Matern 5/2 and a linear part.

Rasmussen & Williams, "Gaussian Processes for Machine Learning", 2006, chapters 2 and 5. Different here: each feature
is weighted by how well it ranks the values by itself, and lengths, noise and the linear share come from a small grid,
not from gradients, so a fit takes milliseconds and never diverges.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MAX_SELECTION_EXAMPLES = 100
"""Examples that choose the settings; all given ones are learned from."""
LENGTH_SCALES = (0.4, 0.8, 1.6, 3.2)
"""In units of the typical distance between two examples."""
LINEAR_SHARES = (0.0, 0.5)
"""Share of the linear part."""
MIN_RELEVANCE = 0.15
"""Weight of a feature that by itself says nothing of the values; 1 is added to one that ranks them perfectly."""
NOISE_VARIANCES = (1e-3, 1e-2, 0.1, 0.4)
"""Variance that is not explained, in units of the values' variance."""
SMALL_MATRIX_ROWS = 64
"""Rows up to which a triangular matrix is inverted as any other."""


@dataclass(frozen=True, kw_only=True)
class Posterior:
    """Mean and standard deviation of each row, [n] each."""

    mean: Floats
    std: Floats


@dataclass(frozen=True, kw_only=True)
class GaussianProcess:
    """A guesser: called with features [k, d], it gives what those rows will be worth.

    Attributes:
        guess: does so.
        mean: gives the means [k] alone, in a fraction of the time.
        left_out: [n] the mean of each example as if it alone had not been seen.
    """

    posterior: Callable[[Floats], Posterior]
    predict_mean: Callable[[Floats], Floats]
    loo_mean: Floats

    def __call__(self, features: Floats) -> Posterior:
        """The guesses of rows [k, d]."""
        return self.posterior(features)


def fit(features: Floats, values: Floats) -> GaussianProcess:
    """Learn from examples.

    Args:
        features: [n, d] features, n at least 1, on one scale.
        values: [n], finite.
    """
    mean, scale = float(values.mean()), float(values.std())
    if scale <= 1e-12 * max(1.0, abs(mean)):
        return GaussianProcess(
            posterior=lambda asked: Posterior(mean=np.full(len(asked), mean), std=np.zeros(len(asked))),
            predict_mean=lambda asked: np.full(len(asked), mean),
            loo_mean=np.full(len(features), mean),
        )
    centre, weight = features.mean(axis=0), _relevance(features, values) + MIN_RELEVANCE
    x, y = (features - centre) * weight, (values - mean) / scale
    weight /= np.sqrt(float((x**2).sum(axis=1).mean()) + 1e-12)
    x = (features - centre) * weight
    length, share, noise, amplitude = _select_hyperparameters(x, y)
    # The inverse of the factor is well enough conditioned (noise is 1e-3 or more) and serves every question.
    covariance = _kernel(x, x, length, share) + noise * np.eye(len(x))
    whiten = _invert_lower_triangular(np.asarray(np.linalg.cholesky(covariance), dtype=np.float64))
    weights = whiten @ y

    def guess(asked: Floats) -> Posterior:
        z = (asked - centre) * weight
        cross = whiten @ _kernel(x, z, length, share)
        prior = (1 - share) + share * (z**2).sum(axis=1)
        variance = amplitude * np.maximum(prior - (cross**2).sum(axis=0), 1e-9)
        return Posterior(mean=mean + scale * (cross.T @ weights), std=scale * np.sqrt(variance))

    precise = whiten.T @ weights

    def means(asked: Floats) -> Floats:
        found: Floats = mean + scale * (precise @ _kernel(x, (asked - centre) * weight, length, share))
        return found

    left_out = y - precise / (whiten**2).sum(axis=0)  # Rasmussen & Williams, equation 5.12
    return GaussianProcess(posterior=guess, predict_mean=means, loo_mean=mean + scale * left_out)


def _relevance(x: Floats, y: Floats) -> Floats:
    """Size of the correlation of each column of x [n, d] with the ranks of y [n], 0..1; 0 for a constant column."""
    ranks = np.searchsorted(np.sort(y), y, side="left") + np.searchsorted(np.sort(y), y, side="right")
    ranked = (ranks - ranks.mean()) / max(float(ranks.std()), 1e-12)
    spread = x.std(axis=0)
    return np.asarray(np.abs((x - x.mean(axis=0)).T @ ranked) / len(y) / np.where(spread > 1e-9, spread, np.inf))


def _select_hyperparameters(x: Floats, y: Floats) -> tuple[float, float, float, float]:
    """Length, linear share, noise and amplitude with the largest marginal likelihood; ties: the first."""
    subset = np.unique(np.linspace(0, len(y) - 1, min(len(y), MAX_SELECTION_EXAMPLES)).astype(int))
    x, y = x[subset], y[subset]
    inner, apart = _inner_products_and_distances(x, x)
    n, shapes, noise = (
        len(y),
        [(length, share) for length in LENGTH_SCALES for share in LINEAR_SHARES],
        np.array(NOISE_VARIANCES),
    )
    # The last row of the factor of a covariance bordered by the values is the values whitened, if the corner is large
    # enough: so one factor for each point of the grid gives both terms of the likelihood.
    bordered = np.zeros((len(shapes), len(noise), n + 1, n + 1))
    for matrices, (length, share) in zip(bordered, shapes, strict=True):
        matrices[:, :n, :n] = _covariance_of_distances(inner, apart, length, share) + noise[:, None, None] * np.eye(n)
        matrices[:, n, :n], matrices[:, n, n] = y, 1 + y @ y / noise
    factors = np.linalg.cholesky(bordered)  # reads the lower half only
    amplitudes = (factors[..., n, :n] ** 2).mean(axis=-1)
    logarithms = np.log(np.diagonal(factors, axis1=2, axis2=3)[..., :n]).sum(axis=-1)
    likelihoods = -0.5 * n * np.log(amplitudes) - logarithms  # [shapes, noises]
    i, j = np.unravel_index(int(np.argmax(likelihoods)), likelihoods.shape)
    return *shapes[i], NOISE_VARIANCES[j], float(amplitudes[i, j])


def _kernel(a: Floats, b: Floats, length_scale: float, linear_share: float) -> Floats:
    """Covariance [n, k] of rows [n, d] and [k, d]."""
    return _covariance_of_distances(*_inner_products_and_distances(a, b), length_scale, linear_share)


def _inner_products_and_distances(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Inner products, and distances times the square root of 2.5, [n, k] each, of rows [n, d] and [k, d]."""
    inner = a @ b.T
    squared = np.maximum((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * inner, 0.0)
    return inner, np.sqrt(2.5 * squared)


def _covariance_of_distances(
    inner: Floats, scaled_distance: Floats, length_scale: float, linear_share: float
) -> Floats:
    """Covariance [n, k] by what `_compared` has found."""
    distance = scaled_distance / length_scale
    return np.asarray((1 - linear_share) * (1 + distance + distance**2 / 3) * np.exp(-distance) + linear_share * inner)


def _invert_lower_triangular(lower: Floats) -> Floats:
    """The inverse of a lower triangular matrix [n, n], by halves: with a third of the arithmetic of any other."""
    n = len(lower)
    if n <= SMALL_MATRIX_ROWS:
        return np.asarray(np.linalg.inv(lower), dtype=np.float64)
    half = n // 2
    found = np.zeros((n, n))
    found[:half, :half], found[half:, half:] = (
        _invert_lower_triangular(lower[:half, :half]),
        _invert_lower_triangular(lower[half:, half:]),
    )
    found[half:, :half] = -found[half:, half:] @ (lower[half:, :half] @ found[:half, :half])
    return found
