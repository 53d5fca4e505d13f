"""Faces that lie as one file each: their labels and splits, gathered into a `FaceData`.

Where a source names no selection split, one is carved from its training faces: by subject where persons are known, else
stratified by class in the order of a hash of the pixels. So it repeats, whatever order the files come in, and exact
copies of one picture stay on one side.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nas.data.base import FaceData, Images, Labels, Split
from nas.data.classes import canonical_class_name, sort_class_names
from nas.data.images import read_images
from nas.errors import DataError

SPLIT_ALIASES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""How sources call their splits."""

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Item:
    """One face: its file, how errors call it, its label as written, and what else is known of it."""

    path: Path
    location: str
    label: str
    split: str | None = None
    subject: str | None = None
    group: str | None = None
    affect: tuple[float, float] | None = None


def build_face_data(
    items: Sequence[Item], *, name: str, source: Path, size: int | None, channels: int | None, val_share: float
) -> FaceData:
    """Read the images and arrange the splits.

    Raises:
        DataError: there are no faces to learn from or to choose by, or an image is broken.
        MissingPackageError: pillow is not installed.
    """
    if not items:
        raise DataError(f"{source} holds no faces; see the documentation of data set {name} for the form expected")
    classes = sort_class_names(canonical_class_name(item.label) for item in items)
    labels = np.array([classes.index(canonical_class_name(item.label)) for item in items], np.int64)
    images = read_images([i.path for i in items], size=size, channels=channels, locations=[i.location for i in items])
    subjects = _subjects(items)
    named = np.array([item.split or "train" for item in items])
    notes = _notes(items, classes, labels[named == "train"])
    if "val" not in named:
        chosen = split_off_validation(images, labels, subjects, eligible=named == "train", share=val_share)
        named = np.where(chosen, "val", named)
        by = "subject" if subjects is not None else "class and a hash of the pixels"
        notes += (f"{source.name} names no val split: {chosen.sum()} faces were carved from train, by {by}",)
    for needed in ("train", "val"):
        if needed not in named:
            raise DataError(
                f"{source} must hold faces of split {needed}, but has none; more faces or subjects are needed"
            )
    if subjects is not None:
        notes += _shared_subjects(subjects, named)

    def split(word: str) -> Split:
        return _split(items, images, labels, subjects, np.flatnonzero(named == word))

    has_test = "test" in named
    return FaceData(
        name=name,
        classes=classes,
        train=split("train"),
        val=split("val"),
        test=split("test") if has_test else None,
        test_name="test" if has_test else f"no test split in {source.name}",
        notes=notes,
    )


def split_off_validation(
    images: Images, labels: Labels, subjects: IntArray | None, *, eligible: BoolArray, share: float
) -> BoolArray:
    """Which faces [N] go to val: about `share` of those `eligible`, whole subjects or each class alike."""
    where = np.flatnonzero(eligible)
    chosen = np.zeros(len(labels), bool)
    if subjects is not None:
        hashes = np.array([_hash(str(subject).encode()) for subject in subjects])
        return _mark_first_by_hash(hashes, where, share, chosen)
    hashes = np.array([_hash(image.tobytes()) for image in images])
    for label in np.unique(labels[where]):
        _mark_first_by_hash(hashes, where[labels[where] == label], share, chosen)
    return chosen


def _mark_first_by_hash(hashes: npt.NDArray[np.str_], where: IntArray, share: float, chosen: BoolArray) -> BoolArray:
    """Mark the first `share` of `where` in the order of their hashes, never parting equal ones, never taking all."""
    values, counts = np.unique(hashes[where], return_counts=True)
    before = np.cumsum(counts) - counts
    taken = values[: len(values) - 1][before[: len(values) - 1] < max(1, share * len(where)) - 0.5]
    chosen[where[np.isin(hashes[where], taken)]] = True
    return chosen


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _subjects(items: Sequence[Item]) -> IntArray | None:
    """A number per person, or None where no face names its person."""
    words = [item.subject for item in items]
    if not any(words):
        return None
    if missing := next((item for item in items if not item.subject), None):
        raise DataError(f"{missing.location}: other faces name their subject, so this one must too")
    return np.unique(np.array(words), return_inverse=True)[1].astype(np.int64)


def _split(items: Sequence[Item], images: Images, labels: Labels, subjects: IntArray | None, at: IntArray) -> Split:
    affect = [items[i].affect for i in at]
    groups = [items[i].group for i in at]
    return Split(
        images=images[at],
        labels=labels[at],
        subjects=None if subjects is None else subjects[at],
        affect=None if None in affect else np.array(affect, np.float32),
        groups=None if None in groups else np.array(groups, np.str_),
    )


def _notes(items: Sequence[Item], classes: tuple[str, ...], train: Labels) -> tuple[str, ...]:
    written = {(item.label.strip().lower(), canonical_class_name(item.label)) for item in items}
    merged = [f"{word} is read as {name}" for word, name in sorted(written) if word != name]
    unlearned = [name for i, name in enumerate(classes) if i not in train]
    return (
        *(["class names: " + ", ".join(merged)] if merged else []),
        *([f"no faces to learn from in: {', '.join(unlearned)}"] if unlearned else []),
    )


def _shared_subjects(subjects: IntArray, named: npt.NDArray[np.str_]) -> tuple[str, ...]:
    people = {word: set(subjects[named == word].tolist()) for word in ("train", "val", "test")}
    pairs = (("train", "val"), ("train", "test"), ("val", "test"))
    shared = [f"{len(people[a] & people[b])} in both {a} and {b}" for a, b in pairs if people[a] & people[b]]
    return (f"the source's own splits share subjects: {', '.join(shared)}",) if shared else ()
