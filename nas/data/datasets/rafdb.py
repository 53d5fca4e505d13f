"""RAF-DB (Li, Deng and Du, "Reliable crowdsourcing and deep locality-preserving learning for expression recognition in
the wild", CVPR 2017), its basic and its compound part. Aligned pictures of 100x100 are read.

Layouts, each with the path of the folder that holds the parts named:
- the release: `EmoLabel/list_patition_label.txt` (so spelt; "train_00001.jpg 5") and
  `Image/aligned/train_00001_aligned.jpg`, below basic/ and below compound/;
- the re-upload on Kaggle: `train/1` to `train/7` and `test/1` to `test/7`, also below DATASET/.

Labels count from 1, in an order of their own. The set has train and test; the selection split is carved out of train.
Persons are not named. Pictures that are not aligned give accuracies that do not compare with any published one, so they
are not read in their place.
"""

import re
from pathlib import Path
from typing import Literal

from nas.data.classes import sort_class_names
from nas.data.image_files import ImageFileOptions
from nas.data.images import IMAGE_SUFFIXES
from nas.data.labelled_files import Item, PublishedForm
from nas.data.paths import FolderListing, printable_path
from nas.data.published_set import PublishedDataset, Reading, find_file, find_folder
from nas.data.text_lines import read_lines
from nas.errors import DataError

BASIC = ("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral")
"""Classes of the labels 1 to 7."""
COMPOUND = (
    "happily surprised", "happily disgusted", "sadly fearful", "sadly angry", "sadly surprised", "sadly disgusted",
    "fearfully angry", "fearfully surprised", "angrily surprised", "angrily disgusted", "disgustedly surprised",
)  # fmt: skip
"""Classes of the labels 1 to 11 of the compound part."""
ATTRIBUTES = {
    "gender": ("male", "female", "unsure"),
    "race": ("Caucasian", "African-American", "Asian"),
    "age": ("0-3", "4-19", "20-39", "40-69", "70+"),
}
"""Groups of each attribute, in the order of its numbers; in the files they follow five lines of landmarks."""
_LABELS = ("EmoLabel/list_patition_label.txt", "EmoLabel/list_partition_label.txt")
_NAME = re.compile(r"(train|test)_\d+")
_N_LANDMARKS = 5


class _Options(ImageFileOptions):
    part: Literal["auto", "basic", "compound"] = "auto"
    group: Literal["none", "gender", "race", "age"] = "none"


class RafDbDataset(PublishedDataset):
    """Options, besides those of `folder`.

    - `part`: basic or compound; by default compound where the folder has that name.
    - `group`: gender, race or age, whose annotation becomes the group; none by default.
    """

    name = "rafdb"
    title = "RAF-DB"
    layout = "EmoLabel/list_patition_label.txt and Image/aligned, or train/1 to train/7"
    options = _Options
    default_size = None

    def recognises(self, folder: Path) -> bool:
        """See `PublishedDataset.recognises`."""
        return find_file(folder, *_LABELS) is not None or all(
            (folder / part / number).is_dir() for part in ("train", "test") for number in ("1", "7")
        )

    def read(self, root: Path, options: _Options) -> Reading:
        """See `PublishedDataset.read`."""
        labels = find_file(root, *_LABELS)
        if labels is not None:
            return _read_release(root, labels, options)
        if options.group != "none":
            raise DataError(
                f"group={options.group} needs Annotation/manual of RAF-DB's own release, which {printable_path(root)} "
                "lacks; leave it out or give the release"
            )
        return _read_class_folders(root)


def _read_release(root: Path, labels: Path, options: _Options) -> Reading:
    aligned = find_folder(root, "Image/aligned", "aligned")
    if aligned is None:
        raise DataError(
            f"{printable_path(root)} must hold the aligned pictures in Image/aligned, but does not; unpack "
            "Image/aligned.zip there"
        )
    rows = list(read_lines(labels, n_words=2, form="a file name and a number"))
    numbers = [_number(words[1], location) for location, words in rows]
    part = root.absolute().name.lower() if options.part == "auto" else options.part
    classes = COMPOUND if part == "compound" else BASIC
    items = []
    for (location, (name, _)), number in zip(rows, numbers, strict=True):
        stem = Path(name).stem
        if not (match := _NAME.fullmatch(stem)):
            raise DataError(f"{location}: the name must be as train_00001.jpg or test_0001.jpg, but is {name[:40]!r}")
        path = aligned / f"{stem}_aligned.jpg"
        items.append(
            Item(
                path=path,
                location=location,
                label=_class(classes, number, location),
                split=match[1],
                group=None if options.group == "none" else _group(root, stem, options.group),
            )
        )
    return Reading(items=items, index_files=[labels], form=PublishedForm(classes=_order(classes)))


def _read_class_folders(root: Path) -> Reading:
    listing = FolderListing(IMAGE_SUFFIXES)
    items = []
    for split in ("train", "test"):
        for folder in listing.folders(root / split):
            shown = printable_path(folder)
            label = _class(BASIC, _number(folder.name, shown), shown)
            items += [
                Item(path=path, location=printable_path(path), label=label, split=split)
                for path in listing.files(folder)
            ]
    return Reading(items=items, notes=listing.notes(), form=PublishedForm(classes=_order(BASIC)))


def _order(classes: tuple[str, ...]) -> tuple[str, ...]:
    return COMPOUND if classes == COMPOUND else sort_class_names(classes)


def _number(text: str, location: str) -> int:
    if not (text.isdecimal() and len(text) <= 3):
        raise DataError(f"{location}: the label must be a number from 1, but is {text[:40]!r}; unpack the set again")
    return int(text)


def _class(classes: tuple[str, ...], number: int, location: str) -> str:
    if not 1 <= number <= len(classes):
        raise DataError(
            f"{location}: labels of RAF-DB must be 1 ({classes[0]}) to {len(classes)} ({classes[-1]}), but this one is "
            f"{number}: the order of such classes is not known; give part=compound if this is the compound part, "
            "or rename folders to expressions and use the data set folder"
        )
    return classes[number - 1]


def _group(root: Path, stem: str, attribute: str) -> str:
    path = root / "Annotation" / "manual" / f"{stem}_manu_attri.txt"
    if not path.is_file():
        raise DataError(
            f"group={attribute} needs {printable_path(path)}, which does not exist; unpack Annotation/manual.zip there"
        )
    lines = [words[0] for _, words in read_lines(path, n_words=None, form="landmarks and attributes")]
    names = ATTRIBUTES[attribute]
    values = lines[_N_LANDMARKS:]
    position = tuple(ATTRIBUTES).index(attribute)
    number = int(values[position]) if len(values) == len(ATTRIBUTES) and values[position].isdecimal() else -1
    if not 0 <= number < len(names):
        raise DataError(
            f"{printable_path(path)} must end with the numbers of gender, race and age, but ends with "
            f"{', '.join(values[-3:])[:60]!r}; unpack it again"
        )
    return names[number]


DATASET = RafDbDataset()
