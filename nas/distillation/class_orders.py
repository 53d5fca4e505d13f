"""Class orders of published data sets, and which of them a teacher without class names has.

A teacher of seven expressions may have been trained with the labels of FER2013, RAF-DB, AffectNet or with folders in
alphabetical order. A wrong order may still be right on two of five images, so the orders are compared on training
images, and with the best order of all: where none of the known ones comes close to that, the teacher has another.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nas.data.classes import EXPRESSIONS, FER2013_CLASSES, canonical_class_name

KNOWN_ORDERS: dict[str, tuple[str, ...]] = {
    "FER2013": FER2013_CLASSES,
    "FER2013 with contempt": EXPRESSIONS,
    "RAF-DB": ("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral"),
    "AffectNet": ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry"),
    "AffectNet-8": ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt"),
    "FER+": ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt"),
    "FER+ without contempt": ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear"),
    "CK+": ("neutral", "angry", "contempt", "disgust", "fear", "happy", "sad", "surprise"),
    "alphabetical": ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"),
    "alphabetical with contempt": ("angry", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise"),
}
"""Label orders of the data sets' own files: FER2013 0 to 6, RAF-DB 1 to 7, AffectNet 0 to 7, FER+'s columns and CK+ 0
to 7. Alphabetical is the order of torchvision's ImageFolder and of HSEmotion."""
DATA_ORDER = "data"
"""Name of the data's own order."""
PLAUSIBLE_GAIN = 0.05
"""Share of the way from the largest class's share to 1 that a teacher's accuracy must reach. For FER2013 (25 % happy)
that is 29 %; linear models of pixels reach 35 %, and nets trained on RAF-DB or AffectNet 45 to 60 %."""
MAX_SHORTFALL = 0.02
"""Largest distance of a known order from the best order of all. Two swapped classes cost more, unless both are rare."""
MAX_NAMED_SHORTFALL = 0.1
"""Distance of the order by a teacher's own class names from the best order of all above which the names are doubted. A
teacher trained on other data confuses classes, but seldom exchanges them."""
MIN_DOUBT_IMAGES = 100
"""Images below which the best order of all is better by chance alone."""
MIN_LEAD = 0.02
"""Smallest distance of the best known order from the next."""
_MAX_OUTPUTS = 12
"""Outputs up to which the best order is searched for: 2^12 sets of columns."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class OrderFit:
    """Accuracy of one order on some images.

    Attributes:
        name: a key of `KNOWN_ORDERS`, or `DATA_ORDER`.
        columns: index of the output for each class of the data.
        accuracy: share of the images whose largest output among these is the label's.
    """

    name: str
    columns: tuple[int, ...]
    accuracy: float


def candidate_orders(n_outputs: int, data_classes: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Columns for the data's classes in each order that `n_outputs` outputs may have; equal columns appear once."""
    names = [canonical_class_name(name) for name in data_classes]
    orders = {name: order for name, order in KNOWN_ORDERS.items() if len(order) == n_outputs}
    columns = {
        name: tuple(order.index(word) for word in names) for name, order in orders.items() if set(names) <= set(order)
    }
    if n_outputs == len(names) and tuple(range(n_outputs)) not in columns.values():
        columns[DATA_ORDER] = tuple(range(n_outputs))
    return {name: value for i, (name, value) in enumerate(columns.items()) if value not in list(columns.values())[:i]}


def fit_orders(
    outputs: Floats, labels: npt.NDArray[np.int64], orders: Mapping[str, tuple[int, ...]]
) -> tuple[OrderFit, ...]:
    """The orders with their accuracies, the most accurate first; the earlier order wins a tie.

    Args:
        outputs: [N, n_outputs] of the teacher.
        labels: [N] of the images, 0 to K - 1.
        orders: K columns of each order.
    """
    fits = [
        OrderFit(name=name, columns=columns, accuracy=order_accuracy(outputs, labels, columns))
        for name, columns in orders.items()
    ]
    return tuple(sorted(fits, key=lambda fit: -fit.accuracy))


def order_accuracy(outputs: Floats, labels: npt.NDArray[np.int64], columns: tuple[int, ...]) -> float:
    """Share of the images whose largest output among these columns is the label's; equal outputs count as wrong."""
    chosen = outputs[:, columns]
    # A constant output would otherwise be right on all images of the first class.
    decided = chosen.max(1) > chosen.min(1)
    return float(((chosen.argmax(1) == labels) & decided).mean())


def best_columns(outputs: Floats, labels: npt.NDArray[np.int64], n_classes: int) -> tuple[int, ...] | None:
    """The columns, one for each class, under which most images are right; None for more than 12 outputs.

    It maximises the sum of the confusion matrix's entries over all injective assignments, by dynamic programming over
    sets of columns.
    """
    n_outputs = outputs.shape[1]
    if n_outputs > _MAX_OUTPUTS or n_outputs < n_classes:
        return None
    counts = np.zeros((n_classes, n_outputs), np.int64)
    np.add.at(counts, (labels, outputs.argmax(1)), 1)
    best: dict[int, tuple[int, tuple[int, ...]]] = {0: (0, ())}
    for row in counts:
        following: dict[int, tuple[int, tuple[int, ...]]] = {}
        for used, (total, columns) in best.items():
            for column in range(n_outputs):
                if not used >> column & 1:
                    entry = (total + int(row[column]), (*columns, column))
                    key = used | 1 << column
                    if key not in following or entry[0] > following[key][0]:
                        following[key] = entry
        best = following
    return max(best.values())[1]


def plausible_accuracy(labels: npt.NDArray[np.int64]) -> float:
    """Accuracy that a teacher must reach on these labels: `PLAUSIBLE_GAIN`, and more where they are few.

    On few images an order is ahead of the largest class by chance: by up to two standard errors of that class's share.
    """
    largest = float(np.bincount(labels).max() / len(labels))
    return largest + max(PLAUSIBLE_GAIN * (1 - largest), 2 * float(np.sqrt(largest * (1 - largest) / len(labels))))


def choose_order(
    outputs: Floats, labels: npt.NDArray[np.int64], orders: Mapping[str, tuple[int, ...]]
) -> tuple[OrderFit | None, str]:
    """The order that a teacher's outputs have, and the figures in words.

    Returns:
        The order, or None where no order is plausible, where two are equally so, or where an order that is not among
        these is clearly better; and the figures of all of them, or the reason.
    """
    fits = fit_orders(outputs, labels, orders)
    figures = f"right on {len(labels)} training images: " + ", ".join(f"{f.name} {f.accuracy:.0%}" for f in fits)
    n_classes = len(fits[0].columns)
    unlisted = best_columns(outputs, labels, n_classes)
    limit = plausible_accuracy(labels)
    best_accuracy = order_accuracy(outputs, labels, unlisted) if unlisted else fits[0].accuracy
    if max(fits[0].accuracy, best_accuracy) < limit:
        return None, f"{figures}; at least {limit:.0%} are needed"
    if unlisted and best_accuracy > fits[0].accuracy + MAX_SHORTFALL:
        return None, f"{figures}, but outputs {', '.join(map(str, unlisted))} as its classes {best_accuracy:.0%}"
    if fits[0].accuracy < limit:
        return None, f"{figures}; at least {limit:.0%} are needed"
    if len(fits) > 1 and fits[0].accuracy < fits[1].accuracy + MIN_LEAD:
        return None, f"{figures}, which does not decide"
    return fits[0], figures


def contradiction_notes(
    name: str, outputs: Floats, labels: npt.NDArray[np.int64], columns: tuple[int, ...]
) -> tuple[str, ...]:
    """A warning where a teacher's class names contradict the images: another order is far more often right.

    Args:
        name: of the teacher.
        outputs: [N, n_outputs] of the teacher.
        labels: [N] of the images, 0 to K - 1.
        columns: K columns of the outputs, by the names.
    """
    named, best = order_accuracy(outputs, labels, columns), best_columns(outputs, labels, len(columns))
    unnamed = order_accuracy(outputs, labels, best) if best else 0.0
    if best is None or len(labels) < MIN_DOUBT_IMAGES or unnamed <= named + MAX_NAMED_SHORTFALL:
        return ()
    note = (
        f"{name} is right on {named:.0%} of {len(labels)} training images by the names of its classes, but on "
        f"{unnamed:.0%} with outputs {', '.join(map(str, best))} as the data's classes; check the names"
    )
    return (note,)
