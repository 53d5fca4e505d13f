"""Items: image files with labels and splits, assembled into a `FaceData`.

A source without a selection split gets one from its training images. Whole subjects are moved if the persons are known;
otherwise a share of each class, in the order of a hash of the pixels. The split therefore does not depend on the order
of the files, and exact copies of an image stay in one split.
"""

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nas.data.base import FaceData, Images, Labels, Split
from nas.data.classes import canonical_class_name, sort_class_names
from nas.data.images import read_images
from nas.data.paths import printable_path
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
    "train_set": "train",
    "training_set": "train",
    "val_set": "val",
    "valid_set": "val",
    "validation_set": "val",
    "test_set": "test",
}
"""Split by the names that sources use."""

MAX_LABEL_LENGTH = 100
"""Characters of a class name."""
MAX_CLASSES = 100
"""More are persons, numbered parts or measurements: compound expressions, the finest in use, are 21."""

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
    items: Sequence[Item],
    *,
    name: str,
    source: Path,
    size: int | None,
    channels: int | None,
    val_share: float,
    notes: tuple[str, ...] = (),
) -> FaceData:
    """Read the images and assemble the splits.

    Args:
        items: the files.
        name: of the data set.
        source: path that the user gave, for messages and notes.
        size: side of the images in pixels; None keeps the files' size.
        channels: 1, 3, or None for those of the first file.
        val_share: share of the training images that becomes the selection split where the source has none.
        notes: further facts of the source.

    Raises:
        DataError: there are no images for training or for selection, fewer than two classes have training images, or
            an image is broken.
        MissingPackageError: pillow is not installed.
    """
    shown, source_name = printable_path(source), printable_path(source.absolute().name)
    if not items:
        raise DataError(f"{shown} must hold faces, but has none; see the documentation of data set {name} for its form")
    _check_labels(items)
    require_few_classes({canonical_class_name(item.label) for item in items}, source)
    classes = sort_class_names(canonical_class_name(item.label) for item in items)
    labels = np.array([classes.index(canonical_class_name(item.label)) for item in items], np.int64)
    subjects = _subjects(items)
    splits = np.array([item.split or "train" for item in items])
    if "train" in splits:
        require_two_classes({classes[i] for i in labels[splits == "train"]}, source)
    images = read_images([i.path for i in items], size=size, channels=channels, locations=[i.location for i in items])
    notes = _notes(items, classes, labels[splits == "train"]) + _unused_columns(items) + notes
    if "val" not in splits:
        chosen = split_off_validation(images, labels, subjects, eligible=splits == "train", share=val_share)
        splits = np.where(chosen, "val", splits)
        rule = "subject" if subjects is not None else "class and a hash of the pixels"
        notes += (f"{source_name} has no val split: {chosen.sum()} faces were split off train, by {rule}",)
    for required in ("train", "val"):
        if required not in splits:
            raise DataError(
                f"{shown} must hold faces of split {required}, but has none; add faces, or subjects if they are named"
            )
    require_two_classes({classes[i] for i in labels[splits == "train"]}, source, advice="name more subjects of each")
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
        test_name="test" if has_test else f"no test split in {source_name}",
        notes=notes,
    )


def require_two_classes(trained: set[str], source: Path, *, advice: str = "") -> None:
    """Refuse training data of fewer than two classes: every network would be right on all of it.

    Args:
        trained: names of the classes that have training faces.
        source: path that the user gave.
        advice: what the source looks like, and what to do.

    Raises:
        DataError: there are fewer than two.
    """
    if len(trained) < 2:
        got = f"only {next(iter(trained))!r}" if trained else "none"
        raise DataError(
            f"{printable_path(source)} must hold training faces of at least two classes, but has {got}; "
            f"{advice or 'check the path and the labels'}"
        )


def require_few_classes(classes: set[str], source: Path) -> None:
    """Refuse more than `MAX_CLASSES` classes.

    Raises:
        DataError: there are more.
    """
    if len(classes) > MAX_CLASSES:
        some = ", ".join(f"'{name}'" for name in sorted(classes)[:3])
        raise DataError(
            f"{printable_path(source)} must have at most {MAX_CLASSES} classes, but has {len(classes)}, as {some}; "
            "these look like persons or numbered parts: give folders or labels of expressions"
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


def _check_labels(items: Sequence[Item]) -> None:
    """Refuse labels that no file of results could hold."""
    for item in items:
        # Category Cc is control characters, Cs is bytes that no encoding explains.
        if len(item.label) > MAX_LABEL_LENGTH or any(unicodedata.category(c) in ("Cc", "Cs") for c in item.label):
            raise DataError(
                f"{item.location}: a class name must be text of at most {MAX_LABEL_LENGTH} characters, but is "
                f"{item.label[:60]!a}; rename the class"
            )


def _subjects(items: Sequence[Item]) -> IntArray | None:
    """A number per person, or None if no item names its subject. Both Unicode forms of a name are one person."""
    subjects = [item.subject and unicodedata.normalize("NFC", item.subject) for item in items]
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
    names = {
        (unicodedata.normalize("NFC", item.label.strip().lower()), canonical_class_name(item.label)) for item in items
    }
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


def _unused_columns(items: Sequence[Item]) -> tuple[str, ...]:
    """A note of the columns that are read and checked, but that no figure of a run uses yet."""
    names = ["group"] if any(item.group is not None for item in items) else []
    names += ["valence", "arousal"] if any(item.affect is not None for item in items) else []
    return (f"columns that are read but not used yet: {', '.join(names)}",) if names else ()
