"""Items: image files with labels and splits, assembled into a `FaceData`.

A source without a selection split gets one from its training images, and so does a published set without a test
split, see `nas.data.splits`.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nas.data.base import FaceData, Images, Labels, Split
from nas.data.classes import canonical_class_name, sort_class_names
from nas.data.images import Box, read_images
from nas.data.paths import printable_path
from nas.data.splits import split_off
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

_NUMBERED = (
    "the classes are numbers, whose meaning is not known: 0 is angry in FER2013 and neutral in AffectNet, and RAF-DB "
    "counts from 1; rename the classes so that models and figures name expressions"
)
MAX_LABEL_LENGTH = 100
"""Characters of a class name."""
MAX_CLASSES = 100
"""More are persons, numbered parts or measurements: compound expressions, the finest in use, are 21."""

IntArray = npt.NDArray[np.int64]


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
        soft_label: share of the votes for each class, in the order of the classes, or None.
        box: part of the picture that holds the face, or None for all of it.
    """

    path: Path
    location: str
    label: str
    split: str | None = None
    subject: str | None = None
    group: str | None = None
    affect: tuple[float, float] | None = None
    soft_label: tuple[float, ...] | None = None
    box: Box | None = None


@dataclass(frozen=True, kw_only=True)
class PublishedForm:
    """What is known of a published set besides its files.

    Attributes:
        classes: names of its classes in their order; None for those that occur, see `sort_class_names`.
        test_share: share of the faces that becomes the test split where the set has none; None for no test split.
        test_name: the set's name of its test split.
    """

    classes: tuple[str, ...] | None = None
    test_share: float | None = None
    test_name: str = "test"


NOTHING_PUBLISHED = PublishedForm()


def build_face_data(
    items: Sequence[Item],
    *,
    name: str,
    source: Path,
    size: int | None,
    channels: int | None,
    val_share: float,
    notes: tuple[str, ...] = (),
    form: PublishedForm = NOTHING_PUBLISHED,
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
        form: what is known of a published set.

    Raises:
        DataError: there are no images for training or for selection, fewer than two classes have training images, or
            an image is broken.
        MissingPackageError: pillow is not installed.
    """
    shown = printable_path(source)
    if not items:
        raise DataError(f"{shown} must hold faces, but has none; see the documentation of data set {name} for its form")
    _check_labels(items)
    named = {canonical_class_name(item.label) for item in items}
    require_few_classes(named, source)
    classes = form.classes or sort_class_names(named)
    labels = np.array([classes.index(canonical_class_name(item.label)) for item in items], np.int64)
    subjects, subject_names = _subjects(items)
    splits = np.array([item.split or "train" for item in items])
    if "train" in splits:
        require_two_classes({classes[i] for i in labels[splits == "train"]}, source)
    images = read_images(
        [i.path for i in items], size=size, channels=channels, locations=[i.location for i in items],
        boxes=[i.box for i in items],
    )  # fmt: skip
    notes = _notes(items, classes, labels[splits == "train"]) + _unused_columns(items) + notes
    splits, carved = _carve_missing(
        splits, images, labels, subjects, source, {"test": form.test_share, "val": val_share}
    )
    notes += carved
    for required in ("train", "val"):
        if required not in splits:
            raise DataError(
                f"{shown} must hold faces of split {required}, but has none; add faces, or subjects if they are named"
            )
    require_two_classes({classes[i] for i in labels[splits == "train"]}, source, advice="name more subjects of each")
    if subjects is not None:
        notes += _shared_subjects(subjects, splits)
    everything = _all_items(items, images, labels, subjects)
    has_test = "test" in splits
    return FaceData(
        name=name,
        classes=classes,
        train=everything.select(splits == "train"),
        val=everything.select(splits == "val"),
        test=everything.select(splits == "test") if has_test else None,
        test_name=form.test_name if has_test else f"no test split in {printable_path(source.absolute().name)}",
        notes=notes,
        subject_names=subject_names,
    )


def _carve_missing(
    splits: npt.NDArray[np.str_],
    images: Images,
    labels: Labels,
    subjects: IntArray | None,
    source: Path,
    shares: Mapping[str, float | None],
) -> tuple[npt.NDArray[np.str_], tuple[str, ...]]:
    """The split [N] of each image once missing splits are taken off train, in the order of `shares`, and notes."""
    notes = []
    for name, share in shares.items():
        if share is None or name in splits:
            continue
        chosen = split_off(images, labels, subjects, eligible=splits == "train", share=share)
        splits = np.where(chosen, name, splits)
        rule = "subject" if subjects is not None else "class and a hash of the pixels"
        notes.append(
            f"{printable_path(source.absolute().name)} has no {name} split: {chosen.sum()} faces were split off train, "
            f"by {rule}"
        )
    return splits, tuple(notes)


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


def _check_labels(items: Sequence[Item]) -> None:
    """Refuse labels that no file of results could hold."""
    for item in items:
        # Category Cc is control characters, Cs is bytes that no encoding explains.
        if len(item.label) > MAX_LABEL_LENGTH or any(unicodedata.category(c) in ("Cc", "Cs") for c in item.label):
            raise DataError(
                f"{item.location}: a class name must be text of at most {MAX_LABEL_LENGTH} characters, but is "
                f"{item.label[:60]!a}; rename the class"
            )


def _subjects(items: Sequence[Item]) -> tuple[IntArray | None, tuple[str, ...]]:
    """A number per person and the names of the numbers, or None and nothing if no item names its subject.

    Both Unicode forms of a name are one person.
    """
    subjects = [item.subject and unicodedata.normalize("NFC", item.subject) for item in items]
    if not any(subjects):
        return None, ()
    if missing := next((item for item in items if not item.subject), None):
        raise DataError(
            f"{missing.location}: either all faces must name their subject or none, but this one does not and others "
            "do; fill in the subject"
        )
    names, numbers = np.unique(np.array(subjects), return_inverse=True)
    return numbers.astype(np.int64), tuple(names.tolist())


def _all_items(items: Sequence[Item], images: Images, labels: Labels, subjects: IntArray | None) -> Split:
    """All images in one split, with what is known of them; a column of which nothing is known is None."""
    affect, groups, soft = ([getattr(item, name) for item in items] for name in ("affect", "group", "soft_label"))
    unknown = (np.nan, np.nan)
    return Split(
        images=images,
        labels=labels,
        subjects=subjects,
        soft_labels=np.array(soft, np.float32) if all(soft) else None,
        affect=np.array([pair or unknown for pair in affect], np.float32) if any(affect) else None,
        groups=np.array([group or "" for group in groups], np.str_) if any(groups) else None,
    )


def _notes(items: Sequence[Item], classes: tuple[str, ...], train: Labels) -> tuple[str, ...]:
    names = {
        (unicodedata.normalize("NFC", item.label.strip().lower()), canonical_class_name(item.label)) for item in items
    }
    renamed = [f"{written} is read as {name}" for written, name in sorted(names) if written != name]
    is_numbered = all(name.isdecimal() for name in classes)
    untrained = [name for i, name in enumerate(classes) if i not in train]
    return (
        *(["class names: " + ", ".join(renamed)] if renamed else []),
        *([_NUMBERED] if is_numbered else []),
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
