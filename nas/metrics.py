"""How good predictions are: accuracy with its interval, balanced accuracy, macro-F1, recall, confusion.

The interval is Wilson's score interval (E. B. Wilson, JASA 22, 1927), which holds near 0 and 1 and for small n too.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.data.base import Images, Split
from nas.errors import CandidateError
from nas.intervals import wilson_interval

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Score:
    """Shares are 0..1, larger is better.

    Attributes:
        accuracy: share of faces whose most probable class is the label.
        low: lower end of the 95 % Wilson interval of `accuracy`.
        high: upper end of it.
        balanced_accuracy: mean recall over the classes that occur in the split.
        macro_f1: mean F1 over the classes that occur in the split or among the predictions.
        recall: recall by class name; a class that does not occur in the split is left out.
        confusion: rows are labels, columns predictions, both in class order; entries are faces.
        n: how many faces.
    """

    accuracy: float
    low: float
    high: float
    balanced_accuracy: float
    macro_f1: float
    recall: dict[str, float]
    confusion: list[list[int]]
    n: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Score":
        """The inverse of `to_dict`, also after a JSON round trip."""
        return cls(**fields)


def score(
    predict: Callable[[Images], Floats], split: Split, classes: tuple[str, ...], *, batch_size: int = 256
) -> Score:
    """Score predictions on every face of a split.

    Args:
        predict: images [N, C, H, W] uint8 to probabilities (or logits) [N, K]. Among equal ones the first class counts.
        split: the faces, at least one.
        classes: the K class names.
        batch_size: faces handed over at once.

    Raises:
        CandidateError: `predict` returned another shape, or a value that is not finite.
        ValueError: the split is empty.
    """
    if not len(split):
        raise ValueError("a score needs at least one face, but the split is empty")
    parts = [
        _predict_labels(predict, split.images[i : i + batch_size], len(classes))
        for i in range(0, len(split), batch_size)
    ]
    return score_from_confusion(confusion_matrix(split.labels, np.concatenate(parts), len(classes)), classes)


def confusion_matrix(
    labels: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], n_classes: int
) -> npt.NDArray[np.int64]:
    """[k, k] counts: rows are labels [N], columns predictions [N]."""
    return (
        np.bincount(labels * n_classes + predicted, minlength=n_classes * n_classes)
        .reshape(n_classes, n_classes)
        .astype(np.int64)
    )


def score_from_confusion(counts: npt.NDArray[np.int64], classes: tuple[str, ...]) -> Score:
    """The score that a confusion matrix [K, K] (rows labels, columns predictions, at least one face) stands for."""
    n, hits = int(counts.sum()), np.diagonal(counts)
    per_label, per_prediction = counts.sum(axis=1), counts.sum(axis=0)
    seen = per_label > 0
    recall = hits[seen] / per_label[seen]
    either = per_label + per_prediction
    f1 = 2 * hits[either > 0] / either[either > 0]
    low, high = wilson_interval(int(hits.sum()), n)
    return Score(
        accuracy=int(hits.sum()) / n,
        low=low,
        high=high,
        balanced_accuracy=float(recall.mean()),
        macro_f1=float(f1.mean()),
        recall={classes[i]: float(r) for i, r in zip(np.flatnonzero(seen), recall, strict=True)},
        confusion=counts.tolist(),
        n=n,
    )


def _predict_labels(predict: Callable[[Images], Floats], images: Images, n_classes: int) -> npt.NDArray[np.int64]:
    outputs = predict(images)
    if outputs.shape != (len(images), n_classes):
        raise CandidateError(f"predictions must have shape {(len(images), n_classes)}, but got {outputs.shape}")
    if not np.isfinite(outputs).all():
        raise CandidateError("predictions must be finite, but got NaN or infinity; the net or its file is broken")
    return np.asarray(outputs.argmax(axis=1), np.int64)
