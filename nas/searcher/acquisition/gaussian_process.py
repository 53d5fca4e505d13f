"""Gaussian process with a Matern 5/2 kernel and a linear part, for some hundred observations.

Rasmussen & Williams, "Gaussian Processes for Machine Learning", 2006, chapters 2 and 5 (http://gaussianprocess.org/gpml/).
Two things are different here:

- Each feature has a weight from its rank correlation with the values, instead of a fitted length scale of its own
  (automatic relevance determination): early in a search there are more features than observations.
- Length scale, linear share and noise come from a grid of 32 points with the largest marginal likelihood, not from
  gradients. A fit takes milliseconds, never diverges, and is the same in every process.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MAX_SELECTION_EXAMPLES = 100
"""Observations that select the hyperparameters, evenly spaced in time; the posterior uses all of them. The selection
factorises 32 matrices of this size."""
LENGTH_SCALES = (0.4, 0.8, 1.6, 3.2)
"""In units of the root mean square distance of two observations."""
LINEAR_SHARES = (0.0, 0.5)
"""Share of the linear kernel in the prior variance; the Matern kernel has the rest."""
MIN_RELEVANCE = 0.15
"""Weight of a feature without rank correlation; a feature that ranks the values perfectly has 1 more. It is above 0,
because a feature may act through an interaction only."""
NOISE_VARIANCES = (1e-3, 1e-2, 0.1, 0.4)
"""Unexplained variance in units of the values' variance. The least one also bounds the condition number of the
covariance, so no further jitter is needed."""
SMALL_MATRIX_ROWS = 64
"""Rows up to which a triangular matrix is inverted by LAPACK's general inverse."""


@dataclass(frozen=True, kw_only=True)
class Posterior:
    """Marginal posterior of the latent function.

    Attributes:
        mean: [k], in the units of the values.
        std: [k] standard deviation without the noise, in the units of the values.
    """

    mean: Floats
    std: Floats


@dataclass(frozen=True, kw_only=True)
class GaussianProcess:
    """A fitted Gaussian process; calling it with features [k, d] gives their `Posterior`.

    Attributes:
        posterior: features [k, d] to the posterior.
        predict_mean: features [k, d] to the means [k] alone, in a fraction of the time.
        loo_mean: [n] leave-one-out mean of each observation, at the hyperparameters of all.
    """

    posterior: Callable[[Floats], Posterior]
    predict_mean: Callable[[Floats], Floats]
    loo_mean: Floats

    def __call__(self, features: Floats) -> Posterior:
        """The posterior of rows [k, d]."""
        return self.posterior(features)


def fit(features: Floats, values: Floats) -> GaussianProcess:
    """Fit a Gaussian process.

    With x the centred and weighted features and y the standardised values, the prior covariance is

        K = (1 - s) (1 + r + r^2 / 3) exp(-r) + s x x',    r = sqrt(5/2) |x - x'| / length,

    and with the noise v and the amplitude a, the posterior of x* has

        mean = k*' (K + v I)^-1 y,    variance = a (k** - k*' (K + v I)^-1 k*).

    Args:
        features: [n, d], n at least 1, all on one scale.
        values: [n], finite. Constant values give that constant with a standard deviation of 0.
    """
    mean, scale = float(values.mean()), float(values.std())
    # Equal values cannot be standardised; the bound is the rounding error of their mean.
    if scale <= 1e-12 * max(1.0, abs(mean)):
        return GaussianProcess(
            posterior=lambda queries: Posterior(mean=np.full(len(queries), mean), std=np.zeros(len(queries))),
            predict_mean=lambda queries: np.full(len(queries), mean),
            loo_mean=np.full(len(features), mean),
        )
    centre, weight = features.mean(axis=0), _relevance(features, values) + MIN_RELEVANCE
    x, y = (features - centre) * weight, (values - mean) / scale
    # A root mean square norm of 1 makes one grid of length scales fit any number of features; 1e-12 is for a lone
    # observation, whose norm is 0.
    weight /= np.sqrt(float((x**2).sum(axis=1).mean()) + 1e-12)
    x = (features - centre) * weight
    length, share, noise, amplitude = _select_hyperparameters(x, y)
    covariance = _kernel(x, x, length, share) + noise * np.eye(len(x))
    # The inverse of the Cholesky factor is computed once and serves every call. The noise of 1e-3 or more keeps it well
    # conditioned, so the usual triangular solve for each call gains no accuracy.
    whiten = _invert_lower_triangular(np.asarray(np.linalg.cholesky(covariance), dtype=np.float64))
    whitened_values = whiten @ y

    def posterior(queries: Floats) -> Posterior:
        z = (queries - centre) * weight
        cross = whiten @ _kernel(x, z, length, share)
        prior = (1 - share) + share * (z**2).sum(axis=1)
        # Rounding may push the variance of a known point below 0; 1e-9 is far below the least noise.
        variance = amplitude * np.maximum(prior - (cross**2).sum(axis=0), 1e-9)
        return Posterior(mean=mean + scale * (cross.T @ whitened_values), std=scale * np.sqrt(variance))

    precise = whiten.T @ whitened_values

    def predict_mean(queries: Floats) -> Floats:
        means: Floats = mean + scale * (precise @ _kernel(x, (queries - centre) * weight, length, share))
        return means

    # y_i - [K^-1 y]_i / [K^-1]_ii, where the diagonal of the inverse is the column norm of `whiten`: Rasmussen &
    # Williams, equation 5.12.
    left_out = y - precise / (whiten**2).sum(axis=0)
    return GaussianProcess(posterior=posterior, predict_mean=predict_mean, loo_mean=mean + scale * left_out)


def _relevance(x: Floats, y: Floats) -> Floats:
    """Absolute correlation of each column of x [n, d] with the ranks of y [n]: [d], 0..1, 0 for a constant column.

    Ranks make the weight independent of a monotone transform of the values, and robust to outliers.
    """
    # Ties share the mean of their ranks: the sum of the first and the last position of a value.
    ranks = np.searchsorted(np.sort(y), y, side="left") + np.searchsorted(np.sort(y), y, side="right")
    ranked = (ranks - ranks.mean()) / max(float(ranks.std()), 1e-12)
    spread = x.std(axis=0)
    return np.asarray(np.abs((x - x.mean(axis=0)).T @ ranked) / len(y) / np.where(spread > 1e-9, spread, np.inf))


def _select_hyperparameters(x: Floats, y: Floats) -> tuple[float, float, float, float]:
    """Length scale, linear share, noise and amplitude with the largest marginal likelihood; ties go to the first.

    The amplitude a is profiled out. At its maximum a = y' (K + v I)^-1 y / n, where the logarithm of the likelihood is,
    up to a constant,

        -n/2 log a - 1/2 log |K + v I|        (Rasmussen & Williams, equations 2.30 and 5.8).
    """
    subset = np.unique(np.linspace(0, len(y) - 1, min(len(y), MAX_SELECTION_EXAMPLES)).astype(int))
    x, y = x[subset], y[subset]
    inner, scaled_distance = _inner_products_and_distances(x, x)
    n, shapes, noise = (
        len(y),
        [(length, share) for length in LENGTH_SCALES for share in LINEAR_SHARES],
        np.array(NOISE_VARIANCES),
    )
    # The last row of the Cholesky factor of a covariance bordered by y is L^-1 y, if the corner exceeds
    # y' (K + v I)^-1 y, which y'y / v bounds. One batched factorisation so gives both terms of every likelihood.
    bordered = np.zeros((len(shapes), len(noise), n + 1, n + 1))
    for matrices, (length, share) in zip(bordered, shapes, strict=True):
        matrices[:, :n, :n] = _covariance_of_distances(inner, scaled_distance, length, share) + noise[
            :, None, None
        ] * np.eye(n)
        matrices[:, n, :n], matrices[:, n, n] = y, 1 + y @ y / noise
    factors = np.linalg.cholesky(bordered)  # reads the lower half only
    amplitudes = (factors[..., n, :n] ** 2).mean(axis=-1)
    half_log_determinants = np.log(np.diagonal(factors, axis1=2, axis2=3)[..., :n]).sum(axis=-1)
    likelihoods = -0.5 * n * np.log(amplitudes) - half_log_determinants  # [shapes, noises]
    i, j = np.unravel_index(int(np.argmax(likelihoods)), likelihoods.shape)
    return *shapes[i], NOISE_VARIANCES[j], float(amplitudes[i, j])


def _kernel(a: Floats, b: Floats, length_scale: float, linear_share: float) -> Floats:
    """Prior covariance [n, k] of rows [n, d] and [k, d], for an amplitude of 1."""
    return _covariance_of_distances(*_inner_products_and_distances(a, b), length_scale, linear_share)


def _inner_products_and_distances(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Inner products, and distances times sqrt(2.5), each [n, k], of rows [n, d] and [k, d].

    Matern 5/2 has sqrt(5) times the distance over the length scale; sqrt(2.5) makes the unit of the length scale the
    root mean square distance of two observations, sqrt(2) times that of one from the centre.
    """
    inner = a @ b.T
    # |a - b|^2 expanded, which is one matrix product; cancellation can leave it slightly below 0.
    squared = np.maximum((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * inner, 0.0)
    return inner, np.sqrt(2.5 * squared)


def _covariance_of_distances(
    inner: Floats, scaled_distance: Floats, length_scale: float, linear_share: float
) -> Floats:
    """Covariance [n, k] from the results of `_inner_products_and_distances`, which no hyperparameter changes."""
    distance = scaled_distance / length_scale
    return np.asarray((1 - linear_share) * (1 + distance + distance**2 / 3) * np.exp(-distance) + linear_share * inner)


def _invert_lower_triangular(lower: Floats) -> Floats:
    """The inverse of a lower triangular matrix [n, n], by halves.

        [A 0; C B]^-1 = [A^-1 0; -B^-1 C A^-1  B^-1]

    takes a third of the arithmetic of a general inverse, most of it in matrix products. numpy has no triangular solver.
    """
    n = len(lower)
    if n <= SMALL_MATRIX_ROWS:
        return np.asarray(np.linalg.inv(lower), dtype=np.float64)
    half = n // 2
    inverse = np.zeros((n, n))
    inverse[:half, :half], inverse[half:, half:] = (
        _invert_lower_triangular(lower[:half, :half]),
        _invert_lower_triangular(lower[half:, half:]),
    )
    inverse[half:, :half] = -inverse[half:, half:] @ (lower[half:, :half] @ inverse[:half, :half])
    return inverse
