"""A compressed net beside the uncompressed one: how much smaller it is, and which classes pay for it.

Rare classes suffer first (Hooker et al. 2019, https://arxiv.org/abs/1911.05248), which the accuracy of all faces hides.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from nas.metrics import Score
from nas.results.record import Record

LOSS = 0.05
"""Recall, 0..1, that a class may lose before a warning."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """Recall of one class, 0..1, on the selection split, before and after compression, and the faces it is of."""

    name: str
    before: float
    after: float
    faces: int

    @property
    def points(self) -> float:
        """After minus before, in percentage points; below zero is a loss."""
        return 100 * (self.after - self.before)

    def __str__(self) -> str:
        return f"{self.name} {self.points:+.1f} points ({self.before:.0%} to {self.after:.0%} of {self.faces} faces)"


def uncompressed(records: Iterable[Record]) -> Record | None:
    """The record of the net that a compression began with; None in a run that searched architectures."""
    return next((r for r in reversed(list(records)) if r.phase == "base"), None)


def compression_ratio(base: Record, record: Record) -> float | None:
    """R = sum U / sum P over the weights: those stored in the uncompressed file by the non-zero ones of this file.

    The ratio that papers on pruning state, summed over all weight tensors of the file, biases included. It counts a
    zero as nothing although a file stores it; `size_ratio` tells of bytes. None where a figure is unknown.
    """
    return base.params / record.nonzero_params if base.params and record.nonzero_params else None


def size_ratio(base: Record, record: Record) -> float | None:
    """The same sum over bytes: those of the uncompressed file by those of this file; None where one is unknown."""
    return base.size_bytes / record.size_bytes if base.size_bytes and record.size_bytes else None


def changes(base: Record, record: Record) -> list[Change]:
    """What happened to each class that occurs in the selection split, in class order; none without both scores."""
    if base.score is None or record.score is None:
        return []
    faces = _faces(base.score)
    return [
        Change(name=name, before=before, after=record.score.recall[name], faces=faces[name])
        for name, before in base.score.recall.items()
        if name in record.score.recall
    ]


def losses(base: Record, record: Record) -> list[Change]:
    """The classes that lost more than `LOSS`, the worst first."""
    found = [change for change in changes(base, record) if change.before - change.after > LOSS + 1e-9]
    return sorted(found, key=lambda change: change.points)


def _faces(score: Score) -> dict[str, int]:
    """Faces of each class that occurs; classes without a face have no recall."""
    return dict(zip(score.recall, [sum(row) for row in score.confusion if sum(row)], strict=True))
