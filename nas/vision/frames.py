"""Frames of sources, and what could not be read of them."""

from dataclasses import dataclass

from nas.vision.base import Pixels

CAMERA = "camera"
"""First word of a camera's name as a source."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """One picture of a source.

    Attributes:
        source: the file, or "camera N".
        index: number of the frame in it, from 0; 0 for a picture.
        time_s: seconds from the beginning of the source; 0 for a picture.
        pixels: [H, W, 3] uint8 RGB.
        is_video: whether it is of a video or a camera.
        rate: frames per second of its video; 0 where that is not known.
    """

    source: str
    index: int = 0
    time_s: float = 0.0
    pixels: Pixels
    is_video: bool = False
    rate: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ReadFault:
    """Something that could not be read: one line for the user.

    Attributes:
        source: the file, or "camera N".
        reason: what must hold, what was found and what to do.
    """

    source: str
    reason: str
