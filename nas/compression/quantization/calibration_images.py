"""Whether images can calibrate: grids that were fitted to noise or to nothing are wrong for every face.

In a picture neighbouring pixels are alike, in noise they are not. The mean over all images is what counts, so that a
few odd ones among faces do no harm.
"""

import numpy as np
import numpy.typing as npt

from nas.errors import ExportError

MIN_NEIGHBOUR_CORRELATION = 0.1
"""Of neighbouring pixels. Independent pixels give 0 +- 0.02 for one image of 48x48; faces 0.9 and more."""
MIN_STD = 1.0
"""Standard deviation, in grey levels, below which an image shows nothing."""


def check_calibration_images(images: npt.NDArray[np.uint8]) -> None:
    """Refuse images [N, C, H, W], 0..255, that are none, constant, or noise.

    Raises:
        ExportError: what they are instead of pictures.
    """
    if not len(images):
        raise ExportError("8-bit units need calibration images, but got none; hand over some training images")
    spread = images.std(axis=(1, 2, 3))
    if spread.max() < MIN_STD:
        raise ExportError("calibration images must show something, but every one is constant; use training images")
    alike = neighbour_correlation(images[spread >= MIN_STD])
    if alike < MIN_NEIGHBOUR_CORRELATION:
        raise ExportError(
            f"calibration images must be pictures, but these are noise: neighbouring pixels correlate by {alike:.2f}; "
            f"use training images"
        )


def neighbour_correlation(images: npt.NDArray[np.uint8]) -> float:
    """Mean over the images [N, C, H, W] of the correlation of pixels with their neighbours to the right and below."""
    centred = images.astype(np.float32) - images.mean(axis=(2, 3), keepdims=True, dtype=np.float32)
    power = np.square(centred).mean(axis=(1, 2, 3)) + 1e-9  # [N]
    right = (centred[..., 1:] * centred[..., :-1]).mean(axis=(1, 2, 3)) if images.shape[3] > 1 else power
    below = (centred[..., 1:, :] * centred[..., :-1, :]).mean(axis=(1, 2, 3)) if images.shape[2] > 1 else power
    return float((np.maximum(right, below) / power).mean())
