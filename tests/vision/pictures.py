"""Pictures, videos and models with known content: faces of scikit-image, and a net that sees the brightest quadrant."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from skimage import data

from nas.vision.base import Box, Pixels
from nas.vision.opencv import import_cv2
from tests.fake_teachers import brightness_of_quadrants

CLASSES = ("angry", "happy", "sad", "neutral")
ASTRONAUT_FACE = Box(x=177, y=66, width=95, height=95)
"""Eileen Collins' face in scikit-image's astronaut, read off the picture."""


@cache
def astronaut() -> Pixels:
    """A portrait [512, 512, 3] with one face; do not write to it."""
    return np.asarray(data.astronaut())


@cache
def lfw_faces() -> Any:
    """100 faces [25, 25] of LFW, uint8."""
    return (255 * data.lfw_subset()[:100]).astype(np.uint8)


def montage(numbers: Sequence[int] = (0, 1, 2), *, side: int = 120, gap: int = 60) -> tuple[Pixels, list[Box]]:
    """Faces of LFW in a row on grey, and where they are."""
    height, width = side + 2 * gap, gap + len(numbers) * (side + gap)
    picture = np.full((height, width, 3), 110, np.uint8)
    boxes = []
    for place, number in enumerate(numbers):
        x = gap + place * (side + gap)
        large = cv2.resize(lfw_faces()[number], (side, side), interpolation=cv2.INTER_CUBIC)
        picture[gap : gap + side, x : x + side] = large[:, :, None]
        boxes.append(Box(x=x, y=gap, width=side, height=side))
    return picture, boxes


def quadrant_net(path: Path, *, labels: tuple[str, ...] | None = CLASSES, softmax: bool = True, **options: Any) -> Path:
    """A net [N, 1, 32, 32] whose class is the brightest quadrant: upper left, upper right, lower left, lower right."""
    return brightness_of_quadrants(path, labels=labels, softmax=softmax, **options)


def bright_quadrant(place: int, *, size: int = 32) -> Pixels:
    """A black picture with one white quadrant."""
    picture = np.zeros((size, size, 3), np.uint8)
    row, column = divmod(place, 2)
    half = size // 2
    picture[row * half : (row + 1) * half, column * half : (column + 1) * half] = 255
    return picture


def write_picture(path: Path, pixels: Pixels, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def write_video(path: Path, frames: Sequence[Pixels], *, rate: float = 10.0, codec: str = "mp4v") -> Path:
    import_cv2()
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), rate, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[:, :, ::-1]))
    writer.release()
    return path


def whole_picture(pixels: Pixels) -> list[Box]:
    """A detector that takes the whole picture for a face, unless it is of one colour."""
    if pixels.min() == pixels.max():
        return []
    return [Box(x=0, y=0, width=pixels.shape[1], height=pixels.shape[0], score=1.0)]
