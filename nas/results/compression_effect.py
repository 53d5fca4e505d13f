"""A compressed net beside the uncompressed one: how much smaller it is, and which classes pay for it.

Rare classes suffer first (Hooker et al. 2019, https://arxiv.org/abs/1911.05248), which the accuracy of all faces hides.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from nas.metrics import Score
from nas.results.record import Record

MAX_RECALL_LOSS = 0.05
"""Recall, 0..1, that a class may lose before a warning."""


@dataclass(frozen=True, kw_only=True)
class RecallChange:
    """Recall of one class, 0..1, on the selection split, before and after compression, and the faces it is of."""

    name: str
    before: float
    after: float
    n_images: int

    @property
    def percentage_points(self) -> float:
        """After minus before, in percentage points; below zero is a loss."""
        return 100 * (self.after - self.before)

    def __str__(self) -> str:
        return f"{self.name} {self.percentage_points:+.1f} points ({self.before:.0%} to {self.after:.0%} of {self.n_images} faces)"


def find_baseline(records: Iterable[Record]) -> Record | None:
    """The record of the net that a compression began with; None in a run that searched architectures."""
    return next((r for r in reversed(list(records)) if r.phase == "base"), None)


def compression_ratio(baseline: Record, record: Record) -> float | None:
    """R = sum U / sum P over the weights: those stored in the uncompressed file by the non-zero ones of this file.

    The ratio that papers on pruning state, summed over all weight tensors of the file, biases included. It counts a
    zero as nothing although a file stores it; `size_ratio` tells of bytes. None where a figure is unknown.
    """
    return baseline.params / record.nonzero_params if baseline.params and record.nonzero_params else None


def size_ratio(baseline: Record, record: Record) -> float | None:
    """The same sum over bytes: those of the uncompressed file by those of this file; None where one is unknown."""
    return baseline.size_bytes / record.size_bytes if baseline.size_bytes and record.size_bytes else None


def recall_changes(baseline: Record, record: Record) -> list[RecallChange]:
    """What happened to each class that occurs in the selection split, in class order; none without both scores."""
    if baseline.score is None or record.score is None:
        return []
    faces = _images_per_class(baseline.score)
    return [
        RecallChange(name=name, before=before, after=record.score.recall[name], n_images=faces[name])
        for name, before in baseline.score.recall.items()
        if name in record.score.recall
    ]


def large_recall_losses(baseline: Record, record: Record) -> list[RecallChange]:
    """The classes that lost more than `MAX_RECALL_LOSS`, the worst first."""
    found = [
        change for change in recall_changes(baseline, record) if change.before - change.after > MAX_RECALL_LOSS + 1e-9
    ]
    return sorted(found, key=lambda change: change.percentage_points)


def _images_per_class(score: Score) -> dict[str, int]:
    """Faces of each class that occurs; classes without a face have no recall."""
    return dict(zip(score.recall, [sum(row) for row in score.confusion if sum(row)], strict=True))
