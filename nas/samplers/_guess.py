"""Guesses of values from few examples, with their doubt: a Gaussian process with a Matern 5/2 and a linear part.

Rasmussen & Williams, "Gaussian Processes for Machine Learning", 2006, chapters 2 and 5. Different here: each feature
is weighted by how well it ranks the values by itself, and lengths, noise and the linear share come from a small grid,
not from gradients, so a fit takes milliseconds and never diverges.
Extremely randomised trees were tried in its place and beside it; they found less with the same trials.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SUBSET = 100
"""Examples that choose the settings; all given ones are learned from."""
LENGTHS = (0.4, 0.8, 1.6, 3.2)
"""In units of the typical distance between two examples."""
LINEAR = (0.0, 0.5)
"""Share of the linear part."""
LEAST_RELEVANCE = 0.15
"""Weight of a feature that by itself says nothing of the values; 1 is added to one that ranks them perfectly."""
NOISE = (1e-3, 1e-2, 0.1, 0.4)
"""Variance that is not explained, in units of the values' variance."""


@dataclass(frozen=True, kw_only=True)
class Guess:
    """Mean and standard deviation of each row, [n] each."""

    mean: Floats
    deviation: Floats


@dataclass(frozen=True, kw_only=True)
class Learned:
    """A guesser: called with features [k, d], it gives what those rows will be worth.

    Attributes:
        guess: does so.
        left_out: [n] the mean of each example as if it alone had not been seen.
    """

    guess: Callable[[Floats], Guess]
    left_out: Floats

    def __call__(self, asked: Floats) -> Guess:
        """The guesses of rows [k, d]."""
        return self.guess(asked)


def learn(seen: Floats, values: Floats) -> Learned:
    """Learn from examples.

    Args:
        seen: [n, d] features, n at least 1, on one scale.
        values: [n], finite.
    """
    mean, scale = float(values.mean()), float(values.std())
    if scale <= 1e-12 * max(1.0, abs(mean)):
        return Learned(
            guess=lambda asked: Guess(mean=np.full(len(asked), mean), deviation=np.zeros(len(asked))),
            left_out=np.full(len(seen), mean),
        )
    centre, weight = seen.mean(axis=0), _relevance(seen, values) + LEAST_RELEVANCE
    x, y = (seen - centre) * weight, (values - mean) / scale
    weight /= np.sqrt(float((x**2).sum(axis=1).mean()) + 1e-12)
    x = (seen - centre) * weight
    length, share, noise, amplitude = _settings(x, y)
    # The inverse of the factor is well enough conditioned (noise is 1e-3 or more) and serves every question.
    whiten = np.linalg.inv(np.linalg.cholesky(_kernel(x, x, length, share) + noise * np.eye(len(x))))
    weights = whiten @ y

    def guess(asked: Floats) -> Guess:
        z = (asked - centre) * weight
        cross = whiten @ _kernel(x, z, length, share)
        prior = (1 - share) + share * (z**2).sum(axis=1)
        variance = amplitude * np.maximum(prior - (cross**2).sum(axis=0), 1e-9)
        return Guess(mean=mean + scale * (cross.T @ weights), deviation=scale * np.sqrt(variance))

    left_out = y - (whiten.T @ weights) / (whiten**2).sum(axis=0)  # Rasmussen & Williams, equation 5.12
    return Learned(guess=guess, left_out=mean + scale * left_out)


def _relevance(x: Floats, y: Floats) -> Floats:
    """Size of the correlation of each column of x [n, d] with the ranks of y [n], 0..1; 0 for a constant column."""
    ranks = np.searchsorted(np.sort(y), y, side="left") + np.searchsorted(np.sort(y), y, side="right")
    ranked = (ranks - ranks.mean()) / max(float(ranks.std()), 1e-12)
    spread = x.std(axis=0)
    return np.asarray(np.abs((x - x.mean(axis=0)).T @ ranked) / len(y) / np.where(spread > 1e-9, spread, np.inf))


def _settings(x: Floats, y: Floats) -> tuple[float, float, float, float]:
    """Length, linear share, noise and amplitude with the largest marginal likelihood."""
    some = np.unique(np.linspace(0, len(y) - 1, min(len(y), SUBSET)).astype(int))
    x, y = x[some], y[some]
    best = (-np.inf, 1.0, 0.0, 0.1, 1.0)
    for length in LENGTHS:
        for share in LINEAR:
            values, vectors = np.linalg.eigh(_kernel(x, x, length, share))  # one for all levels of noise
            turned = vectors.T @ y
            for noise in NOISE:
                total = np.maximum(values, 0.0) + noise
                amplitude = float(np.mean(turned**2 / total))
                likelihood = -0.5 * (len(y) * np.log(amplitude) + float(np.log(total).sum()))
                best = max(best, (likelihood, length, share, noise, amplitude))
    return best[1:]


def _kernel(a: Floats, b: Floats, length: float, share: float) -> Floats:
    """Covariance [n, k] of rows [n, d] and [k, d]."""
    inner = a @ b.T
    squared = np.maximum((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * inner, 0.0)
    distance = np.sqrt(2.5 * squared) / length
    return np.asarray((1 - share) * (1 + distance + distance**2 / 3) * np.exp(-distance) + share * inner)
