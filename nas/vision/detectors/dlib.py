"""dlib: a histogram of oriented gradients and a linear classifier, the detector of much of this field's literature.

Dalal and Triggs 2005, https://doi.org/10.1109/CVPR.2005.177; King 2015, https://arxiv.org/abs/1502.00046. The detector
is compiled into the package dlib-bin. The score is the distance from the classifier's threshold.
"""

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

from nas.errors import ConfigError, MissingPackageError
from nas.vision.base import DEFAULT_MIN_FACE, Box, DetectFunction, Detector, Pixels, reduction, sorted_boxes

WINDOW = 80
"""Side in pixels of the faces that the detector was trained on; doubling the picture halves the smallest face."""
MAX_DOUBLINGS = 2
THRESHOLD = 0.0
"""Smallest distance from the classifier's threshold; dlib's own default."""


class DlibDetector(Detector):
    """dlib's frontal face detector. Its smallest face is 20, 40 or 80 pixels."""

    name = "dlib"

    def load(self, *, model: Path | None = None, min_face: int = DEFAULT_MIN_FACE) -> DetectFunction:
        """The detector compiled into dlib; see `Detector.load`."""
        if model is not None:
            raise ConfigError(f"detector dlib takes no file, but got {model}; leave it out")
        detector = _import_dlib().get_frontal_face_detector()

        def detect(pixels: Pixels) -> list[Box]:
            factor = reduction(pixels)
            picture = _reduced(pixels, factor)
            doublings = min(MAX_DOUBLINGS, max(0, math.ceil(math.log2(WINDOW / max(min_face * factor, 1)))))
            found, scores, _ = detector.run(picture, doublings, THRESHOLD)
            boxes = [
                Box(
                    x=b.left() / factor, y=b.top() / factor, width=b.width() / factor, height=b.height() / factor,
                    score=float(score),
                )
                for b, score in zip(found, scores, strict=True)
                if min(b.width(), b.height()) >= 0.9 * min_face * factor  # boxes come in steps of a fifth
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


def _reduced(pixels: Pixels, factor: float) -> Pixels:
    """A copy of the picture, smaller by a factor, by averaging."""
    if factor == 1:
        return np.ascontiguousarray(pixels)
    from nas.vision.opencv import import_cv2

    cv2 = import_cv2()
    smaller: Pixels = cv2.resize(np.ascontiguousarray(pixels), None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return smaller


DETECTOR = DlibDetector()
