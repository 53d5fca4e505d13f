"""Metrics of predictions: accuracy with its interval, balanced accuracy, macro-F1, recall and confusion matrix.

The interval is Wilson's score interval, see `nas.intervals.wilson_interval`.
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
    """Metrics of one set of predictions. Shares are 0..1; larger is better.

    Attributes:
        accuracy: share of images whose most probable class is the label.
        low: lower end of the 95 % Wilson interval of `accuracy`.
        high: upper end of the interval.
        balanced_accuracy: mean recall over the classes that occur in the split.
        macro_f1: mean F1 over the classes that occur in the split or among the predictions.
        recall: recall by class name; a class that does not occur in the split is left out.
        confusion: rows are labels, columns predictions, both in class order; entries are counts of images.
        n: number of images.
    """

    accuracy: float
    low: float
    high: float
    balanced_accuracy: float
    macro_f1: float
    recall: dict[str, float]
    confusion: list[list[int]]
    n: int

    def __post_init__(self) -> None:
        """Question each number where it enters a record.

        Raises:
            CandidateError: a share is outside [0, 1], or a count is negative.
        """
        shares = {
            name: getattr(self, name) for name in ("accuracy", "low", "high", "balanced_accuracy", "macro_f1")
        } | {f"recall.{name}": value for name, value in self.recall.items()}
        for name, share in shares.items():
            if not 0 <= share <= 1:  # also NaN
                raise CandidateError(f"{name} must be in [0, 1], but is {share}")
        sides = {len(self.confusion), *map(len, self.confusion)}
        if self.n < 0 or len(sides) > 1 or any(count < 0 for row in self.confusion for count in row):
            raise CandidateError("confusion must be a square table of counts")

    def to_dict(self) -> dict[str, Any]:
        """The metrics as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Score":
        """The inverse of `to_dict`, also after a JSON round trip."""
        return cls(**fields)


def score(
    predict: Callable[[Images], Floats], split: Split, classes: tuple[str, ...], *, batch_size: int = 256
) -> Score:
    """Compute the metrics of predictions on all images of a split.

    Args:
        predict: maps images [N, C, H, W] uint8 to probabilities or logits [N, K]. Of equal ones the first class counts.
        split: images and labels, at least one.
        classes: the K class names.
        batch_size: images of one call of `predict`.

    Raises:
        CandidateError: `predict` returns another shape, or a value that is not finite.
        ValueError: the split is empty.
    """
    if not len(split):
        raise ValueError("a split must hold at least one image to be scored, but it is empty")
    parts = [
        _predict_labels(predict, split.images[i : i + batch_size], len(classes))
        for i in range(0, len(split), batch_size)
    ]
    return score_from_confusion(confusion_matrix(split.labels, np.concatenate(parts), len(classes)), classes)


def confusion_matrix(
    labels: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], n_classes: int
) -> npt.NDArray[np.int64]:
    """Counts of images [K, K]: rows are labels, columns predictions.

    Args:
        labels: class of each image, 0..K-1 [N].
        predicted: predicted class of each image [N].
        n_classes: the number K of classes.

    Examples:
        >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
        [[1, 1], [0, 1]]
    """
    return (
        np.bincount(labels * n_classes + predicted, minlength=n_classes * n_classes)
        .reshape(n_classes, n_classes)
        .astype(np.int64)
    )


def score_from_confusion(counts: npt.NDArray[np.int64], classes: tuple[str, ...]) -> Score:
    """Metrics of a confusion matrix [K, K] with at least one image: rows are labels, columns predictions.

    Examples:
        >>> metrics = score_from_confusion(np.array([[9, 1], [0, 10]]), ("angry", "happy"))
        >>> metrics.accuracy, metrics.recall
        (0.95, {'angry': 0.9, 'happy': 1.0})
    """
    n, hits = int(counts.sum()), np.diagonal(counts)
    per_label, per_prediction = counts.sum(axis=1), counts.sum(axis=0)
    occurs = per_label > 0
    recall = hits[occurs] / per_label[occurs]
    # F1 = 2 TP / (2 TP + FP + FN), and the denominator is the number of labels plus that of predictions of the class.
    denominator = per_label + per_prediction
    f1 = 2 * hits[denominator > 0] / denominator[denominator > 0]
    low, high = wilson_interval(int(hits.sum()), n)
    return Score(
        accuracy=int(hits.sum()) / n,
        low=low,
        high=high,
        balanced_accuracy=float(recall.mean()),
        macro_f1=float(f1.mean()),
        recall={classes[i]: float(r) for i, r in zip(np.flatnonzero(occurs), recall, strict=True)},
        confusion=counts.tolist(),
        n=n,
    )


def _predict_labels(predict: Callable[[Images], Floats], images: Images, n_classes: int) -> npt.NDArray[np.int64]:
    outputs = predict(images)
    if outputs.shape != (len(images), n_classes):
        raise CandidateError(f"predictions must have shape {(len(images), n_classes)}, but got {outputs.shape}")
    if not np.isfinite(outputs).all():
        raise CandidateError("predictions must be finite, but got NaN or infinity; the network or its file is broken")
    return np.asarray(outputs.argmax(axis=1), np.int64)
