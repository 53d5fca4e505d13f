"""Tracking of faces through a video, and labels smoothed over time.

Boxes of a frame are matched with those of the tracks greedily: the pair of largest overlap first, as long as it reaches
a limit. A track's probabilities are an exponential average with a time constant in seconds, so that smoothing does not
depend on the frame rate: after dt seconds the old average keeps the weight exp(-dt / time constant). Detectors and
classifiers flicker from frame to frame; faces do not.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nas.vision.base import Box

Floats = npt.NDArray[np.float32]

MIN_OVERLAP = 0.3
"""Smallest intersection over union of one face in two frames: SORT's limit, https://arxiv.org/abs/1602.00763."""
MAX_GAP_S = 0.5
"""Seconds that a face may be missed before its track ends."""
DEFAULT_TIME_CONSTANT_S = 0.5
"""An expression of a second reaches 86 % of its weight."""


@dataclass(frozen=True, kw_only=True)
class Track:
    """A face through time.

    Attributes:
        number: of the track, 1 for the first.
        box: where it was seen last.
        probabilities: [K] smoothed.
        seen_s: when it was seen last, in seconds of the video.
    """

    number: int
    box: Box
    probabilities: Floats
    seen_s: float


class Tracker:
    """Tracks of one video.

    Life: one tracker a video; `update` with each frame, in order of time.
    """

    def __init__(self, *, time_constant_s: float = DEFAULT_TIME_CONSTANT_S) -> None:
        """Begin without tracks; a time constant of 0 smooths nothing."""
        self._time_constant_s = time_constant_s
        self._numbers = itertools.count(1)
        self._tracks: list[Track] = []

    def update(self, boxes: Sequence[Box], probabilities: Floats, *, time_s: float) -> list[Track]:
        """The track of each box.

        Args:
            boxes: faces of the frame.
            probabilities: [N, K] of these faces.
            time_s: of the frame; time that does not advance counts as no time.

        Returns:
            A track for each box, in order.
        """
        alive = [track for track in self._tracks if time_s - track.seen_s <= MAX_GAP_S]
        matches = match_boxes([track.box for track in alive], boxes)
        current = []
        for i, (box, row) in enumerate(zip(boxes, probabilities, strict=True)):
            old = alive[matches[i]] if i in matches else None
            current.append(
                Track(number=next(self._numbers), box=box, probabilities=row, seen_s=time_s)
                if old is None
                else Track(number=old.number, box=box, probabilities=self._smooth(old, row, time_s), seen_s=time_s)
            )
        missed = [track for i, track in enumerate(alive) if i not in matches.values()]
        self._tracks = [*current, *missed]
        return current

    def _smooth(self, old: Track, row: Floats, time_s: float) -> Floats:
        if self._time_constant_s <= 0:
            return row
        kept = math.exp(-max(time_s - old.seen_s, 0.0) / self._time_constant_s)
        return (kept * old.probabilities + (1 - kept) * row).astype(np.float32)


def match_boxes(old: Sequence[Box], new: Sequence[Box]) -> dict[int, int]:
    """Index of the old box of each new one that has one: the pair of largest overlap first; earlier pairs win ties."""
    pairs = [(o.overlap(n), i, j) for i, n in enumerate(new) for j, o in enumerate(old)]
    matches: dict[int, int] = {}
    for overlap, i, j in sorted(pairs, key=lambda pair: -pair[0]):
        if overlap >= MIN_OVERLAP and i not in matches and j not in matches.values():
            matches[i] = j
    return matches
