"""Annotation: boxes and labels drawn on a copy of a picture.

Text is drawn by pillow, which has more letters than OpenCV.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from nas.errors import MissingPackageError
from nas.vision.base import Pixels
from nas.vision.predictor import Face, LabelledFrame

PALETTE = (
    (230, 25, 75), (60, 140, 30), (150, 60, 200), (215, 150, 0), (0, 110, 200), (220, 95, 0), (90, 90, 90),
    (0, 128, 128),
)  # fmt: skip
"""Colours by the index of the class, repeated where there are more classes; white text is readable on each."""
MIN_TEXT_HEIGHT, TEXT_SHARE = 11, 0.14
"""Height of letters in pixels at least, and as a share of the box."""
LINE_SHARE = 0.015
"""Width of a box's line as a share of its height, two pixels at least."""


def annotate(labelled: LabelledFrame) -> Pixels:
    """A copy of the frame with a box and a label such as "happy 93 %" for each face; small faces are drawn last."""
    pixels = labelled.frame.pixels.copy()
    for face in labelled.faces:
        _draw_box(pixels, face)
        _draw_label(pixels, face)
    return pixels


def describe_face(face: Face) -> str:
    """The label and its probability in percent."""
    return f"{face.label} {100 * face.probabilities[face.label]:.0f} %"


def class_colour(face: Face) -> tuple[int, int, int]:
    """The colour of a face's class."""
    return PALETTE[list(face.probabilities).index(face.label) % len(PALETTE)]


def _draw_box(pixels: Pixels, face: Face) -> None:
    height, width = pixels.shape[:2]
    box, colour = face.box, class_colour(face)
    line = max(2, round(LINE_SHARE * box.height))
    left, top = max(0, round(box.x)), max(0, round(box.y))
    right, bottom = min(width, round(box.x + box.width)), min(height, round(box.y + box.height))
    pixels[top : top + line, left:right] = colour
    pixels[max(bottom - line, top) : bottom, left:right] = colour
    pixels[top:bottom, left : left + line] = colour
    pixels[top:bottom, max(right - line, left) : right] = colour


def _draw_label(pixels: Pixels, face: Face) -> None:
    """The label above the box, or in it where there is no room above; moved left where it would leave the picture."""
    height, width = pixels.shape[:2]
    mask = _text_mask(describe_face(face), max(MIN_TEXT_HEIGHT, round(TEXT_SHARE * face.box.height)))
    mask = mask[:height, :width]
    rows, columns = mask.shape
    above = round(face.box.y) - rows
    top = min(max(above if above >= 0 else round(face.box.y), 0), height - rows)
    left = min(max(round(face.box.x), 0), width - columns)
    share = mask[:, :, None] / 255  # of white in each pixel
    colour = np.array(class_colour(face))
    pixels[top : top + rows, left : left + columns] = (255 * share + colour * (1 - share)).astype(np.uint8)


@lru_cache(maxsize=1024)
def _text_mask(text: str, height: int) -> npt.NDArray[np.uint8]:
    """How much of each pixel is letter, 0..255, with a margin around."""
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError:
        raise MissingPackageError("labels on pictures need pillow: pip install 'fer-nas[vision]'") from None
    font = ImageFont.load_default(size=height)
    left, top, right, bottom = font.getbbox(text)
    margin = max(2, height // 5)
    image = Image.new("L", (int(right - left) + 2 * margin, int(bottom - top) + 2 * margin))
    ImageDraw.Draw(image).text((margin - left, margin - top), text, fill=255, font=font)
    return np.asarray(image)
