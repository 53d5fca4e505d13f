"""Non-negative least squares of relative errors under Huber's loss, by iteratively reweighted least squares.

Source: Huber, Robust Estimation of a Location Parameter, Annals of Mathematical Statistics 35(1), 1964. Published
latency tables and busy machines both have outliers of ten and more times the usual error, which squares would follow.
"""

import numpy as np
import numpy.typing as npt

from nas.latency.predicted.nnls import nnls

Floats = npt.NDArray[np.float64]

HUBER_K = 2.0
"""Errors beyond so many standard deviations count linearly; 95 % of normal errors are within."""
MAD_TO_STD = 1.4826
"""Standard deviation of a normal distribution, over the median of its absolute values."""


def fit_huber_nnls(relative: Floats, *, pull: Floats, centre: Floats, min_scale: float, iterations: int) -> Floats:
    """The x >= 0 [k] with the least sum of Huber(relative @ x - 1) + |pull * (x - centre)|^2.

    Args:
        relative: columns divided by the measured value of their row [n, k], so that 1 is an exact prediction.
        pull: square root of the ridge of each coefficient [k].
        centre: value that the ridge pulls each coefficient towards [k].
        min_scale: lower bound of the scale of the errors. Without one, a fit that is exact for half of the samples
            has scale 0 and all other samples lose their weight.
        iterations: reweighted fits; the first is ordinary least squares, and weights settle after a few.

    Returns:
        The coefficients of the last fit [k].
    """
    weights, coefficients = np.ones(len(relative)), centre
    for _ in range(iterations):
        # The ridge as k more rows, whose residuals are pull * (x - centre): nnls then needs no term of its own.
        matrix = np.concatenate([relative * weights[:, None], np.diag(pull)])  # [n + k, k]
        coefficients = nnls(matrix, np.concatenate([weights, pull * centre]), start=coefficients)
        errors = np.abs(relative @ coefficients - 1)
        scale = max(MAD_TO_STD * float(np.median(errors)), min_scale)
        # Rows are scaled by the square root of Huber's weight min(1, k scale / |error|), as residuals are squared.
        weights = np.sqrt(np.minimum(1.0, HUBER_K * scale / np.maximum(errors, 1e-12)))
    return coefficients
