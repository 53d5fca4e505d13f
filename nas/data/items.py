"""Items: image files with labels and splits, assembled into a `FaceData`.

A source without a selection split gets one from its training images. Whole subjects are moved if the persons are known;
otherwise a share of each class, in the order of a hash of the pixels. The split therefore does not depend on the order
of the files, and exact copies of an image stay in one split.
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
"""Split by the names that sources use."""

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Item:
    """One image file.

    Attributes:
        path: the file.
        location: name of the item in error messages.
        label: class name as written in the source.
        split: train, val or test; None if the source does not say.
        subject: name of the person; None if it is not known.
        group: name of a group to report figures for separately, or None.
        affect: valence and arousal in -1..1, or None.
    """

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
    """Read the images and assemble the splits.

    Args:
        items: the files.
        name: of the data set.
        source: path that the user gave, for messages and notes.
        size: side of the images in pixels; None keeps the files' size.
        channels: 1, 3, or None for those of the first file.
        val_share: share of the training images that becomes the selection split where the source has none.

    Raises:
        DataError: there are no images for training or for selection, or an image is broken.
        MissingPackageError: pillow is not installed.
    """
    if not items:
        raise DataError(
            f"{source} must hold faces, but has none; see the documentation of data set {name} for its form"
        )
    classes = sort_class_names(canonical_class_name(item.label) for item in items)
    labels = np.array([classes.index(canonical_class_name(item.label)) for item in items], np.int64)
    images = read_images([i.path for i in items], size=size, channels=channels, locations=[i.location for i in items])
    subjects = _subjects(items)
    splits = np.array([item.split or "train" for item in items])
    notes = _notes(items, classes, labels[splits == "train"])
    if "val" not in splits:
        chosen = split_off_validation(images, labels, subjects, eligible=splits == "train", share=val_share)
        splits = np.where(chosen, "val", splits)
        rule = "subject" if subjects is not None else "class and a hash of the pixels"
        notes += (f"{source.name} has no val split: {chosen.sum()} faces were split off train, by {rule}",)
    for required in ("train", "val"):
        if required not in splits:
            raise DataError(
                f"{source} must hold faces of split {required}, but has none; add faces, or subjects if they are named"
            )
    if subjects is not None:
        notes += _shared_subjects(subjects, splits)

    def split(name: str) -> Split:
        return _split(items, images, labels, subjects, np.flatnonzero(splits == name))

    has_test = "test" in splits
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
    """Choose the images of a selection split.

    Args:
        images: [N, C, H, W].
        labels: [N].
        subjects: [N] person of each image, or None if the persons are not known.
        eligible: [N] images that may be chosen.
        share: share of the eligible images to choose, 0..1.

    Returns:
        [N] whether each image is chosen: whole subjects, or about the same share of each class without subjects.
    """
    rows = np.flatnonzero(eligible)
    chosen = np.zeros(len(labels), bool)
    if subjects is not None:
        hashes = np.array([_hash(str(subject).encode()) for subject in subjects])
        return _mark_first_by_hash(hashes, rows, share, chosen)
    hashes = np.array([_hash(image.tobytes()) for image in images])
    for label in np.unique(labels[rows]):
        _mark_first_by_hash(hashes, rows[labels[rows] == label], share, chosen)
    return chosen


def _mark_first_by_hash(hashes: npt.NDArray[np.str_], rows: IntArray, share: float, chosen: BoolArray) -> BoolArray:
    """Mark the first `share` of `rows` by their hashes; equal hashes stay together, and at least one stays unmarked."""
    values, counts = np.unique(hashes[rows], return_counts=True)
    n_before = np.cumsum(counts) - counts
    # A hash is taken while fewer images than the share come before it; -0.5 rounds the share to whole images.
    taken = values[: len(values) - 1][n_before[: len(values) - 1] < max(1, share * len(rows)) - 0.5]
    chosen[rows[np.isin(hashes[rows], taken)]] = True
    return chosen


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _subjects(items: Sequence[Item]) -> IntArray | None:
    """A number per person, or None if no item names its subject."""
    subjects = [item.subject for item in items]
    if not any(subjects):
        return None
    if missing := next((item for item in items if not item.subject), None):
        raise DataError(
            f"{missing.location}: either all faces must name their subject or none, but this one does not and others "
            "do; fill in the subject"
        )
    return np.unique(np.array(subjects), return_inverse=True)[1].astype(np.int64)


def _split(items: Sequence[Item], images: Images, labels: Labels, subjects: IntArray | None, rows: IntArray) -> Split:
    affect = [items[i].affect for i in rows]
    groups = [items[i].group for i in rows]
    return Split(
        images=images[rows],
        labels=labels[rows],
        subjects=None if subjects is None else subjects[rows],
        affect=None if None in affect else np.array(affect, np.float32),
        groups=None if None in groups else np.array(groups, np.str_),
    )


def _notes(items: Sequence[Item], classes: tuple[str, ...], train: Labels) -> tuple[str, ...]:
    names = {(item.label.strip().lower(), canonical_class_name(item.label)) for item in items}
    renamed = [f"{written} is read as {name}" for written, name in sorted(names) if written != name]
    untrained = [name for i, name in enumerate(classes) if i not in train]
    return (
        *(["class names: " + ", ".join(renamed)] if renamed else []),
        *([f"classes without training faces: {', '.join(untrained)}"] if untrained else []),
    )


def _shared_subjects(subjects: IntArray, splits: npt.NDArray[np.str_]) -> tuple[str, ...]:
    people = {name: set(subjects[splits == name].tolist()) for name in ("train", "val", "test")}
    pairs = (("train", "val"), ("train", "test"), ("val", "test"))
    shared = [f"{len(people[a] & people[b])} in both {a} and {b}" for a, b in pairs if people[a] & people[b]]
    return (f"the source's own splits share subjects: {', '.join(shared)}",) if shared else ()
