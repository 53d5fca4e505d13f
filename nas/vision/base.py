"""Contract of the face detectors, and the box that they return."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""A picture [H, W, 3] uint8, RGB."""
DEFAULT_MIN_FACE = 40
"""Side in pixels of the smallest face to look for; FER2013's faces have 48."""
MAX_DETECTION_SIDE = 1024
"""Longer side in pixels of the picture that a detector searches. Larger pictures are searched in a smaller copy, as
the time grows with the pixels."""


@dataclass(frozen=True, kw_only=True)
class Box:
    """A face in a picture.

    Attributes:
        x: left side in pixels from the left of the picture.
        y: upper side in pixels from the top.
        width: in pixels, above 0.
        height: in pixels, above 0.
        score: how sure the detector is; larger is surer, and the scale is the detector's own.
    """

    x: float
    y: float
    width: float
    height: float
    score: float = 0.0

    @property
    def area(self) -> float:
        """Square pixels."""
        return self.width * self.height

    def overlap(self, other: "Box") -> float:
        """Intersection over union with another box, 0..1."""
        width = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        height = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        shared = max(width, 0.0) * max(height, 0.0)
        return shared / (self.area + other.area - shared)


DetectFunction = Callable[[Pixels], list[Box]]
"""Faces of a picture, the largest first; a box may reach a little beyond the picture."""


class Detector(ABC):
    """A member of the detector family.

    Life: one instance for each module of `nas/vision/detectors`, its constant `DETECTOR`, made at import. Packages are
    imported at use. `load` gives a function for any number of pictures of any size, to be called from one thread.

    Promises of the function:
    - The same picture gives the same boxes, and stays as it is.
    - Boxes are the largest first; each is finite, and overlaps the picture.
    - A picture without faces, of one pixel or of one colour gives no box and no error.

    Attributes:
        name: name of the module.
        needs_model: whether `load` needs a file that the user brings.
    """

    name: str
    needs_model: bool = False

    @abstractmethod
    def load(self, *, model: Path | None = None, min_face: int = DEFAULT_MIN_FACE) -> DetectFunction:
        """The function that finds faces.

        Args:
            model: file of the detector; for members that need one.
            min_face: side in pixels of the smallest face to look for. In pictures whose longer side exceeds
                `MAX_DETECTION_SIDE`, it is at least the detector's own smallest face in the reduced copy.

        Raises:
            ConfigError: the file is missing or does not fit.
            MissingPackageError: the detector's package is not installed.
        """


def reduction(pixels: Pixels) -> float:
    """Factor 0..1 by which a picture is made smaller before it is searched."""
    return min(1.0, MAX_DETECTION_SIDE / float(max(pixels.shape[:2])))


def sorted_boxes(boxes: Sequence[Box], pixels: Pixels) -> list[Box]:
    """Boxes that are finite and overlap the picture, the largest first; of equal ones the upper left first."""
    height, width = pixels.shape[:2]
    kept = [
        b
        for b in boxes
        if all(map(math.isfinite, (b.x, b.y, b.width, b.height, b.score)))
        and min(b.width, b.height) > 0
        and b.x < width
        and b.y < height
        and min(b.x + b.width, b.y + b.height) > 0
    ]
    return sorted(kept, key=lambda b: (-b.area, b.y, b.x))
