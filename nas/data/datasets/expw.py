"""ExpW (Zhang, Luo, Loy and Tang, "From facial expression recognition to interpersonal relation prediction", IJCV
2018): 91,793 faces in photographs from the web.

Layout: `label/label.lst` and `image/origin/*.jpg`. A line of the list is name, number of the face in the photograph,
top, left, right, bottom, confidence of the detector, label: the box's edges are in that order, not left first. The
faces are cut out.

There is no official split, and the authors' random one is lost. The split is by a hash of the photograph's name, 80 %
train, 10 % val, 10 % test, so that it depends on nothing else and faces of one photograph stay together. Persons are
not named; the photograph stands for the person wherever faces are grouped.
"""

import hashlib
from pathlib import Path

from pydantic import Field

from nas.data.image_files import ImageFileOptions
from nas.data.labelled_files import Item, PublishedForm
from nas.data.paths import path_from_text
from nas.data.published_set import PublishedDataset, Reading, find_file, find_folder
from nas.data.text_lines import read_lines
from nas.errors import DataError

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""Classes of the labels 0 to 6."""
_LISTS = ("label/label.lst", "label.lst")
_IMAGES = ("image/origin", "image", "origin")
_COLUMNS = ("name", "face", "top", "left", "right", "bottom", "confidence", "label")


class _Options(ImageFileOptions):
    min_confidence: float = Field(default=0.0, ge=0)


class ExpwDataset(PublishedDataset):
    """Options: `min_confidence` of the face detector (0, its values reach about 100), and those of `folder`."""

    name = "expw"
    title = "ExpW"
    layout = "label/label.lst and image/origin"
    options = _Options

    def recognises(self, folder: Path) -> bool:
        """See `PublishedDataset.recognises`."""
        return find_file(folder, *_LISTS) is not None and find_folder(folder, *_IMAGES) is not None

    def read(self, root: Path, options: _Options) -> Reading:
        """See `PublishedDataset.read`."""
        source, images = find_file(root, *_LISTS), find_folder(root, *_IMAGES)
        if source is None or images is None:
            return Reading(items=[])
        form = ", ".join(_COLUMNS)
        rows = [
            (location, dict(zip(_COLUMNS, words, strict=True)))
            for location, words in read_lines(source, n_words=len(_COLUMNS), form=form)
        ]
        kept = [row for row in rows if _number(row[1]["confidence"], *row) >= options.min_confidence]
        low = [f"faces below the confidence {options.min_confidence:g} were left out: {len(rows) - len(kept)}"]
        return Reading(
            items=[_item(row, images, location) for location, row in kept],
            index_files=[source],
            notes=("persons are not named: photographs stand for subjects", *(low if len(kept) < len(rows) else ())),
            form=PublishedForm(classes=CLASSES, test_name="10 % of the photographs, by a hash of their names"),
        )


def _item(row: dict[str, str], images: Path, location: str) -> Item:
    left, top, right, bottom = (int(_number(row[edge], location, row)) for edge in ("left", "top", "right", "bottom"))
    if left >= right or top >= bottom:
        raise DataError(
            f"{location}: the box's edges must be top, left, right, bottom with left < right and top < bottom, but are "
            f"{top}, {left}, {right}, {bottom}; unpack label.lst again"
        )
    number = int(row["label"]) if row["label"].isdecimal() and len(row["label"]) <= 2 else -1
    if not 0 <= number < len(CLASSES):
        raise DataError(
            f"{location}: the label must be 0 ({CLASSES[0]}) to {len(CLASSES) - 1} ({CLASSES[-1]}), but is "
            f"{row['label'][:20]!r}; unpack label.lst again"
        )
    return Item(
        path=path_from_text(images, row["name"]),
        location=location,
        label=CLASSES[number],
        split=_split(row["name"]),
        subject=row["name"],
        box=(left, top, right, bottom),
    )


def _split(name: str) -> str:
    tenth = int(hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8], 16) % 10
    return {0: "test", 1: "val"}.get(tenth, "train")


def _number(text: str, location: str, row: dict[str, str]) -> float:
    try:
        number = float(text)
        int(number)  # neither NaN nor infinite
    except (ValueError, OverflowError):
        raise DataError(
            f"{location}: edges and confidence must be numbers, but one is {text[:20]!r} for {row['name'][:40]!a}; "
            "unpack label.lst again"
        ) from None
    return number


DATASET = ExpwDataset()
