"""Low-fidelity features: the value that a short training would have given each candidate, predicted from observed ones.

Values after a short training correlate with those after a full one, and many more candidates have them. A Gaussian
process predicts the low-fidelity value of every candidate, and its mean is one more feature of the model of the final
value: the autoregressive model of Kennedy & O'Hagan, "Predicting the output from a complex computer code when fast
approximations are available", 2000 (https://doi.org/10.1093/biomet/87.1.1), with the weight left to that model.
Different here: a candidate with an observed low-fidelity value gets its leave-one-out mean, so the feature has the same
meaning, and the same error, for candidates with and without one.
"""

import numpy as np
import numpy.typing as npt

from nas.searcher.acquisition.gaussian_process import GaussianProcess, fit
from nas.searcher.acquisition.subsample import newest_and_spread

Floats = npt.NDArray[np.float64]

MIN_OBSERVATIONS = 5
"""Low-fidelity values of one objective from which on a model is fitted to it."""
MAX_OBSERVATIONS = 200
"""Low-fidelity values that a model is fitted to, which bounds its time (cubic in their number)."""


class LowFidelityFeatures:
    """One feature for each objective with enough low-fidelity values.

    Args:
        inputs: [n, d] features of all trials so far.
        low_fidelity_values: [n, m], maximised, NaN where there is none.

    Attributes:
        train_features: [n, e] the new features of these trials.
    """

    def __init__(self, inputs: Floats, low_fidelity_values: Floats) -> None:
        self._models: list[tuple[GaussianProcess, float, float]] = []
        columns = []
        for column in low_fidelity_values.T:
            fitted = newest_and_spread(np.flatnonzero(np.isfinite(column)), MAX_OBSERVATIONS)
            others = np.setdiff1d(np.arange(len(column)), fitted)
            if len(fitted) < MIN_OBSERVATIONS:
                continue
            values, _ = log_from_best(column[fitted])
            centre, scale = float(values.mean()), max(float(values.std()), 1e-9)
            model = fit(inputs[fitted], values)
            # In-sample means would carry their own observation, and the final model would trust the feature too much.
            feature = np.empty(len(inputs))
            feature[fitted] = model.loo_mean
            feature[others] = model.predict_mean(inputs[others])
            columns.append((feature - centre) / scale)
            self._models.append((model, centre, scale))
        self.train_features: Floats = np.stack(columns, axis=1) if columns else np.empty((len(inputs), 0))

    def __call__(self, inputs: Floats) -> Floats:
        """The new features [k, e] of candidates [k, d]."""
        columns = [(model.predict_mean(inputs) - centre) / scale for model, centre, scale in self._models]
        return np.stack(columns, axis=1) if columns else np.empty((len(inputs), 0))


def log_from_best(values: Floats) -> tuple[Floats, float]:
    """Logarithm of the distance to slightly above the best value, which stretches the scale where the front is decided.

        t = -log(top - y),    top = best + max(best - median, (best - worst) / 10, 1e-9 max(1, |best|))

    A few failed trainings then do not dominate the scale, as with the logarithm of an error rate.

    Args:
        values: [n], maximised, finite.

    Returns:
        The transformed values [n] in the same order, and `top`; y = top - exp(-t) inverts.
    """
    best = float(values.max())
    # The median sets the margin; a tenth of the range replaces it where over half of the values are equal to the best.
    room = max(best - float(np.median(values)), 0.1 * (best - float(values.min())), 1e-9 * max(1.0, abs(best)))
    return -np.log(best + room - values), best + room
