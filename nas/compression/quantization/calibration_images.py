"""Check of calibration images: grids that are calibrated on noise or on constant images are wrong for every face.

Neighbouring pixels correlate in a picture and not in noise. The mean over all images decides, so that a few outliers
among faces do no harm.
"""

import numpy as np
import numpy.typing as npt

from nas.errors import ExportError

MIN_NEIGHBOUR_CORRELATION = 0.1
"""Correlation of neighbouring pixels. Independent pixels give 0 +- 0.02 for one image of 48x48; faces give 0.9 and
more."""
MIN_STD = 1.0
"""Standard deviation, in grey levels, below which an image counts as constant."""


def check_calibration_images(images: npt.NDArray[np.uint8]) -> None:
    """Reject images [N, C, H, W], 0..255, that are empty, constant or noise.

    Raises:
        ExportError: the images are not pictures; the message says what they are.
    """
    if not len(images):
        raise ExportError("INT8 units need calibration images, but got none; pass some training images")
    std = images.std(axis=(1, 2, 3))
    if std.max() < MIN_STD:
        raise ExportError("calibration images must be pictures, but every one is constant; use training images")
    correlation = neighbour_correlation(images[std >= MIN_STD])
    if correlation < MIN_NEIGHBOUR_CORRELATION:
        raise ExportError(
            f"calibration images must be pictures, but these are noise: neighbouring pixels correlate by "
            f"{correlation:.2f}; use training images"
        )


def neighbour_correlation(images: npt.NDArray[np.uint8]) -> float:
    """Mean over images [N, C, H, W] of the larger correlation of pixels with their right or lower neighbours, -1..1."""
    centred = images.astype(np.float32) - images.mean(axis=(2, 3), keepdims=True, dtype=np.float32)
    power = np.square(centred).mean(axis=(1, 2, 3)) + 1e-9  # [N]
    right = (centred[..., 1:] * centred[..., :-1]).mean(axis=(1, 2, 3)) if images.shape[3] > 1 else power
    below = (centred[..., 1:, :] * centred[..., :-1, :]).mean(axis=(1, 2, 3)) if images.shape[2] > 1 else power
    return float((np.maximum(right, below) / power).mean())
