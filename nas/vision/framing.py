"""Framing: the square around a detected face that a data set's crops show, as data with its source.

Detectors draw tighter or wider boxes, and data sets were cropped more or less tightly; a net sees what it was trained
on only where both are known. A framing is measured on a data set's own crops: the detector is run on each crop, with
its edges continued outwards, and the medians of size and place of the crop against the box are kept. Only training
faces are used. `python -m benchmarks.framing --measure` prints the constants, and without it what they are worth.
"""

from dataclasses import dataclass

import numpy as np

from nas.data.base import Images
from nas.distillation.onnx_teacher import fit_to_shape
from nas.vision.base import Box, Pixels

FER2013 = "fer2013"


@dataclass(frozen=True, kw_only=True)
class Framing:
    """How a crop lies around a detector's box. The unit is the box's width.

    Attributes:
        scale: side of the square crop.
        right: how far the crop's centre is to the right of the box's.
        down: how far it is below.
        source: where the figures come from.
    """

    scale: float
    right: float
    down: float
    source: str


_MEASURED = "medians over the found ones of 800 Training faces, benchmarks/framing.py --measure"
FRAMINGS: dict[tuple[str, str], Framing] = {
    ("haar", FER2013): Framing(
        scale=1.03,
        right=0.0,
        down=0.0,
        source=f"{_MEASURED}; the faces were cropped with OpenCV (Goodfellow et al. 2013, arXiv 1307.0414)",
    ),
    ("dlib", FER2013): Framing(scale=1.18, right=0.0, down=-0.08, source=_MEASURED),
    ("yunet", FER2013): Framing(scale=1.32, right=0.01, down=0.01, source=_MEASURED),
}
"""Framing by detector and data set."""
DATASET_ALIASES = {"ferplus": FER2013, "fer+": FER2013}
"""Data sets that have the images of another one."""
WITHOUT_FRAMING = {
    "raf-db": "RAF-DB's aligned faces are placed by eyes and mouth, at points that its authors do not publish",
    "affectnet": "the margin of AffectNet's crops differs between its releases, and none is published as a figure",
}
"""Data sets whose framing is not known, and why; that of FER2013 is taken for them."""


def find_framing(detector: str, dataset: str | None) -> tuple[Framing, str]:
    """The framing of a detector and a data set, and a note where another data set's stands in for it.

    Args:
        detector: name of a detector.
        dataset: name of the data set that a net was trained on; None where it is not known.

    Returns:
        The framing, and a sentence for the user, empty where the framing is the data set's own. A detector without
        figures gets its own box.
    """
    name = DATASET_ALIASES.get((dataset or "").lower(), (dataset or "").lower())
    if (own := FRAMINGS.get((detector, name))) is not None:
        return own, ""
    reason = WITHOUT_FRAMING.get(name) or (
        f"no framing is known for data set {dataset}" if dataset else "the model does not say what it was trained on"
    )
    if (stand_in := FRAMINGS.get((detector, FER2013))) is not None:
        return stand_in, f"faces are framed as in FER2013: {reason}"
    box = Framing(scale=1.0, right=0.0, down=0.0, source="the detector's own box")
    return box, f"faces are framed by the boxes of detector {detector}: {reason}"


def frame_box(box: Box, framing: Framing) -> Box:
    """The square crop of a box; it may reach beyond the picture."""
    side = framing.scale * box.width
    x = box.x + box.width / 2 + framing.right * box.width - side / 2
    y = box.y + box.height / 2 + framing.down * box.width - side / 2
    return Box(x=x, y=y, width=side, height=side, score=box.score)


def crop(pixels: Pixels, square: Box, shape: tuple[int, int, int]) -> Images:
    """The part of a picture in a square, [1, C, H, W] uint8; beyond the picture its edges are continued.

    Args:
        pixels: the picture.
        square: what `frame_box` returned; rounded to whole pixels, at least one.
        shape: (C, H, W) to convert to, as a teacher's images are (bilinear with antialiasing, luma of RGB).
    """
    side = max(1, round(square.width))
    rows = np.clip(np.arange(round(square.y), round(square.y) + side), 0, pixels.shape[0] - 1)
    columns = np.clip(np.arange(round(square.x), round(square.x) + side), 0, pixels.shape[1] - 1)
    part = pixels[rows[:, None], columns[None, :]]  # [side, side, 3]
    return fit_to_shape(np.ascontiguousarray(part.transpose(2, 0, 1))[None], shape)
