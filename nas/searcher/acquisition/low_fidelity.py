"""First looks as a feature: what a short training would have shown of any candidate, guessed from those that had one.

Values after a short training say much of those after a long one, and many more candidates have them. A Gaussian process
guesses them for every candidate, and its mean is one more feature for the guess of the final value: the autoregressive
idea of Kennedy & O'Hagan, "Predicting the output from a complex computer code when fast approximations are available",
2000 (https://doi.org/10.1093/biomet/87.1.1), with the weight left to the guesser. Different here: for a candidate that
was looked at, the mean is that of a process which does not know its look, so the feature means the same for all.
"""

import numpy as np
import numpy.typing as npt

from nas.searcher.acquisition.gaussian_process import GaussianProcess, fit
from nas.searcher.acquisition.subsample import newest_and_spread

Floats = npt.NDArray[np.float64]

MIN_OBSERVATIONS = 5
"""Looks from which on there is something to learn."""
MAX_OBSERVATIONS = 200
"""Looks that are learned from."""


class LowFidelityFeatures:
    """What first looks say of candidates.

    Args:
        inputs: [n, d] features of all candidates so far.
        looks: [n, m] their values at a first look, more is better, NaN without one.

    Attributes:
        seen: [n, e] the new features of the candidates so far, one for each objective that was looked at.
    """

    def __init__(self, inputs: Floats, low_fidelity_values: Floats) -> None:
        self._models: list[tuple[GaussianProcess, float, float]] = []
        columns = []
        for look in low_fidelity_values.T:
            looked = newest_and_spread(np.flatnonzero(np.isfinite(look)), MAX_OBSERVATIONS)
            others = np.setdiff1d(np.arange(len(look)), looked)
            if len(looked) < MIN_OBSERVATIONS:
                continue
            values, _ = log_from_best(look[looked])
            centre, scale = float(values.mean()), max(float(values.std()), 1e-9)
            guess = fit(inputs[looked], values)
            column = np.empty(len(inputs))
            column[looked] = guess.loo_mean
            column[others] = guess.predict_mean(inputs[others])
            columns.append((column - centre) / scale)
            self._models.append((guess, centre, scale))
        self.train_features: Floats = np.stack(columns, axis=1) if columns else np.empty((len(inputs), 0))

    def __call__(self, inputs: Floats) -> Floats:
        """The new features [k, e] of candidates [k, d]."""
        columns = [(guess.predict_mean(inputs) - centre) / scale for guess, centre, scale in self._models]
        return np.stack(columns, axis=1) if columns else np.empty((len(inputs), 0))


def log_from_best(values: Floats) -> tuple[Floats, float]:
    """Values [n] on a logarithmic scale that stretches the good end, where the front is decided, and its top.

    What comes back is -log(top - value); the top lies as far above the best value as that above the median. So a few
    failures do not drown the rest, as with the logarithm of an error.
    """
    best = float(values.max())
    room = max(best - float(np.median(values)), 0.1 * (best - float(values.min())), 1e-9 * max(1.0, abs(best)))
    return -np.log(best + room - values), best + room
