"""dlib: a histogram of oriented gradients and a linear classifier, the detector of much of this field's literature.

Dalal and Triggs 2005, https://doi.org/10.1109/CVPR.2005.177; King 2015, https://arxiv.org/abs/1502.00046. The detector
is compiled into the package dlib-bin. The score is the distance from the classifier's threshold.
"""

import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from nas.errors import ConfigError, MissingPackageError
from nas.vision.base import DEFAULT_MIN_FACE, Box, DetectFunction, Detector, Pixels, sorted_boxes
from nas.vision.opencv import import_cv2

WINDOW = 80
"""Side in pixels of the faces that the detector was trained on. The picture is enlarged or reduced until the smallest
face to look for has this side."""
MAX_SIDE = 1280
"""Longer side in pixels of the picture that is searched; a megapixel takes about 50 ms."""
THRESHOLD = 0.0
"""Smallest distance from the classifier's threshold; dlib's own default."""


class DlibDetector(Detector):
    """dlib's frontal face detector. In large pictures its smallest face has a sixteenth of the longer side."""

    name = "dlib"

    def load(self, *, model: Path | None = None, min_face: int = DEFAULT_MIN_FACE) -> DetectFunction:
        """The detector compiled into dlib; see `Detector.load`."""
        if model is not None:
            raise ConfigError(f"detector dlib takes no file, but got {model}; leave it out")
        detector = _frontal_detector(_import_dlib())

        def detect(pixels: Pixels) -> list[Box]:
            factor = min(WINDOW / min_face, MAX_SIDE / max(pixels.shape))
            found, scores, _ = detector.run(_resized(pixels, factor), 0, THRESHOLD)
            boxes = [
                Box(
                    x=b.left() / factor, y=b.top() / factor, width=b.width() / factor, height=b.height() / factor,
                    score=float(score),
                )
                for b, score in zip(found, scores, strict=True)
            ]  # fmt: skip
            return sorted_boxes(boxes, pixels)

        return detect


def _import_dlib() -> Any:
    """The package dlib, not this module.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        import dlib
    except ImportError:
        sys.modules.pop("dlib", None)
        raise MissingPackageError("detector dlib needs dlib: pip install 'fer-nas[dlib]'") from None
    return dlib


@cache
def _frontal_detector(dlib: Any) -> Any:
    """The detector compiled into dlib, unpacked once a process: that takes as long as ten pictures."""
    return dlib.get_frontal_face_detector()


def _resized(pixels: Pixels, factor: float) -> Pixels:
    """A copy of the picture, larger or smaller by a factor; at least a pixel in each direction."""
    cv2 = import_cv2()
    height, width = pixels.shape[:2]
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    resized: Pixels = cv2.resize(np.ascontiguousarray(pixels), size, interpolation=way)
    return resized


DETECTOR = DlibDetector()
