"""Effect of compression against the uncompressed model: ratios of size, and change of recall by class.

Rare classes suffer first (Hooker et al. 2019, https://arxiv.org/abs/1911.05248), which the accuracy over all faces
hides.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from nas.metrics import Score
from nas.results.record import Record

MAX_RECALL_LOSS = 0.05
"""Loss of recall, 0..1, above which a class is warned of."""


@dataclass(frozen=True, kw_only=True)
class RecallChange:
    """Recall of one class on the selection split before and after compression.

    Attributes:
        name: the class.
        before: recall of the uncompressed model, 0..1.
        after: recall of the compressed model, 0..1.
        n_images: faces of the class.
    """

    name: str
    before: float
    after: float
    n_images: int

    @property
    def percentage_points(self) -> float:
        """After minus before, in percentage points; negative is a loss."""
        return 100 * (self.after - self.before)

    def __str__(self) -> str:
        shares = f"{self.before:.0%} to {self.after:.0%} of {self.n_images} faces"
        return f"{self.name} {self.percentage_points:+.1f} points ({shares})"


def find_baseline(records: Iterable[Record]) -> Record | None:
    """The record of the uncompressed model; None in a run that searched architectures."""
    return next((r for r in reversed(list(records)) if r.phase == "base"), None)


def compression_ratio(baseline: Record, record: Record) -> float | None:
    """R = sum U / sum P: weights stored in the uncompressed file, divided by the non-zero weights of this file.

    This is the ratio stated in papers on pruning, summed over all weight tensors of the file, biases included. It
    counts a zero as nothing although a file stores it; `size_ratio` compares bytes. None where a figure is unknown.
    """
    return baseline.params / record.nonzero_params if baseline.params and record.nonzero_params else None


def size_ratio(baseline: Record, record: Record) -> float | None:
    """Bytes of the uncompressed file divided by bytes of this file; None where one is unknown."""
    return baseline.size_bytes / record.size_bytes if baseline.size_bytes and record.size_bytes else None


def recall_changes(baseline: Record, record: Record) -> list[RecallChange]:
    """The change of each class that occurs in the selection split, in class order; empty without both scores."""
    if baseline.score is None or record.score is None:
        return []
    n_images = _images_per_class(baseline.score)
    return [
        RecallChange(name=name, before=before, after=record.score.recall[name], n_images=n_images[name])
        for name, before in baseline.score.recall.items()
        if name in record.score.recall
    ]


def large_recall_losses(baseline: Record, record: Record) -> list[RecallChange]:
    """The classes that lost more than `MAX_RECALL_LOSS`, largest loss first."""
    # 1e-9 keeps a loss of exactly the limit, which floating point may put a little above it, from counting.
    losses = [c for c in recall_changes(baseline, record) if c.before - c.after > MAX_RECALL_LOSS + 1e-9]
    return sorted(losses, key=lambda change: change.percentage_points)


def _images_per_class(score: Score) -> dict[str, int]:
    """Faces of each class that occurs; `recall` leaves out classes without a face."""
    return dict(zip(score.recall, [sum(row) for row in score.confusion if sum(row)], strict=True))
