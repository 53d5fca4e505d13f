"""haar: OpenCV's cascade of Haar features for frontal faces, which comes with opencv-python-headless up to version 4.

Viola and Jones 2001, https://doi.org/10.1109/CVPR.2001.990517. FER2013 was cropped with a detector of OpenCV, and the
boxes of this cascade are its crops, see `nas.vision.framing`. The score is the number of overlapping hits.
"""

from pathlib import Path

import numpy as np

from nas.errors import ConfigError, MissingPackageError
from nas.vision.base import DEFAULT_MIN_FACE, Box, DetectFunction, Detector, Pixels, reduction, sorted_boxes
from nas.vision.opencv import import_cv2

CASCADE = "haarcascade_frontalface_default.xml"
WINDOW = 24
"""Side in pixels of the faces that the cascade was trained on."""
SCALE_STEP = 1.1
MIN_HITS = 5
"""Overlapping hits that make a face; OpenCV's own default of 3 finds more faces where there are none."""


class HaarDetector(Detector):
    """The cascade of OpenCV's wheel, or another one in a file."""

    name = "haar"

    def load(self, *, model: Path | None = None, min_face: int = DEFAULT_MIN_FACE) -> DetectFunction:
        """The cascade; see `Detector.load`."""
        cv2 = import_cv2()
        if not hasattr(cv2, "CascadeClassifier") or not hasattr(cv2, "data"):
            raise MissingPackageError(
                f"detector haar needs OpenCV 4, whose wheel has the cascades, but this is {cv2.__version__}: "
                "pip install 'opencv-python-headless<5'"
            )
        path = Path(cv2.data.haarcascades) / CASCADE if model is None else model
        try:
            cascade = cv2.CascadeClassifier(str(path))
            is_empty = cascade.empty()
        except (cv2.error, SystemError):  # the latter where OpenCV's constructor fails
            is_empty = True
        if is_empty:
            raise ConfigError(f"detector haar needs a cascade of OpenCV (.xml), but {path} is none; give another file")

        def detect(pixels: Pixels) -> list[Box]:
            factor = reduction(pixels)
            grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
            if factor < 1:
                grey = cv2.resize(grey, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
            if min(grey.shape) < WINDOW:
                return []
            side = max(WINDOW, round(min_face * factor))
            found, hits = cascade.detectMultiScale2(grey, SCALE_STEP, MIN_HITS, minSize=(side, side))
            boxes = [
                Box(**dict(zip(("x", "y", "width", "height"), map(float, box / factor), strict=True)), score=float(n))
                for box, n in zip(np.asarray(found, float).reshape(-1, 4), hits, strict=True)
            ]
            return sorted_boxes(boxes, pixels)

        return detect


DETECTOR = HaarDetector()
