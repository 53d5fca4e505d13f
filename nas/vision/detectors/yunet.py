"""yunet: a convolutional net of 75,856 weights that also finds turned and small faces, run by OpenCV.

Wu et al. 2023, https://doi.org/10.1007/s11633-023-1423-y. No wheel has its file, which is under the MIT licence and is
brought by the user. The score is the net's own, 0..1.
"""

from pathlib import Path

import numpy as np

from nas.errors import ConfigError, MissingPackageError
from nas.files import regular_file_fault
from nas.vision.base import DEFAULT_MIN_FACE, Box, DetectFunction, Detector, Pixels, reduction, sorted_boxes
from nas.vision.opencv import import_cv2

FILE = "face_detection_yunet_2023mar.onnx"
ADDRESS = f"https://media.githubusercontent.com/media/opencv/opencv_zoo/main/models/face_detection_yunet/{FILE}"
GET_LINE = f"curl -LO {ADDRESS}"
"""How to get the file: 232,589 bytes, SHA-256 8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4."""
MIN_SCORE = 0.7
"""OpenCV's own default of 0.9 misses every other face that fills a picture."""
MAX_OVERLAP = 0.3
MAX_FACES = 5000
"""Boxes before overlapping ones are merged; OpenCV's default."""
STRIDE = 32
"""The net halves a picture five times."""


class YuNetDetector(Detector):
    """OpenCV's FaceDetectorYN with the user's file."""

    name = "yunet"
    needs_model = True

    def load(self, *, model: Path | None = None, min_face: int = DEFAULT_MIN_FACE) -> DetectFunction:
        """The net in a file; see `Detector.load`."""
        cv2 = import_cv2()
        if not hasattr(cv2, "FaceDetectorYN"):
            raise MissingPackageError(
                f"detector yunet needs OpenCV 4.8 or newer, but this is {cv2.__version__}: "
                "pip install -U opencv-python-headless"
            )
        if model is None:
            raise ConfigError(
                f"detector yunet needs its file; give it with --detector-model {FILE}, got by: {GET_LINE}"
            )
        if (fault := regular_file_fault(model)) is not None:
            raise ConfigError(f"detector yunet needs its file, but {model} {fault}; get it by: {GET_LINE}")
        try:
            net = cv2.FaceDetectorYN.create(str(model), "", (320, 320), MIN_SCORE, MAX_OVERLAP, MAX_FACES)
            net.detect(np.zeros((320, 320, 3), np.uint8))
        except cv2.error:
            raise ConfigError(
                f"detector yunet needs the file {FILE}, but {model} is another one; get it by: {GET_LINE}"
            ) from None

        def detect(pixels: Pixels) -> list[Box]:
            factor = reduction(pixels)
            picture = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2BGR)
            if factor < 1:
                picture = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
            if min(picture.shape[:2]) < STRIDE:
                return []
            net.setInputSize((picture.shape[1], picture.shape[0]))
            _, rows = net.detect(picture)  # [N, 15]: box, five points, score
            boxes = [
                Box(x=x / factor, y=y / factor, width=w / factor, height=h / factor, score=score)
                for x, y, w, h, *_, score in (rows.astype(float).tolist() if rows is not None else ())
                if max(w, h) >= min_face * factor
            ]
            return sorted_boxes(boxes, pixels)

        return detect


DETECTOR = YuNetDetector()
