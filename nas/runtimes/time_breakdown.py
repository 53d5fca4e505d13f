"""Breakdown of the time of one inference: parts with milliseconds, and remarks on what they mean and leave out."""

from dataclasses import dataclass

WITHOUT_CAMERA = (
    "left out: the camera, decoding, finding and cropping the face, and copying the crop into the input; a whole "
    "application is slower than any figure here"
)
"""Remark on every breakdown: what a figure of a classifier never contains."""


@dataclass(frozen=True, kw_only=True)
class TimePart:
    """One part of an inference.

    Attributes:
        name: what is done, for example "reformats".
        ms: milliseconds of one inference, 0 or more.
        detail: how many there are, and the longest; may be empty.
    """

    name: str
    ms: float
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class TimeBreakdown:
    """Where the time of one inference goes.

    Attributes:
        title: what was timed, on which device, and how.
        parts: in the order of an inference, or longest first where there is no order.
        remarks: findings and caveats, one sentence each.
    """

    title: str
    parts: tuple[TimePart, ...]
    remarks: tuple[str, ...] = ()

    @property
    def total_ms(self) -> float:
        """Sum of all parts."""
        return sum(part.ms for part in self.parts)
