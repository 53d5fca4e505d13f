"""CK+ (Lucey et al., "The extended Cohn-Kanade dataset (CK+)", CVPR workshops 2010): sequences of posed expressions.

Layouts, each with the path of the folder that holds the parts named:
- the release: `cohn-kanade-images/S005/001/S005_001_00000011.png` and `Emotion/S005/001/*_emotion.txt`, one number in
  each. 327 of 593 sequences are labelled; their last frames show the expression, the first one a neutral face;
- CK+48: `anger/S010_004_00000017.png` and six further class folders, with the last three frames of each sequence.

There are no official splits. Frames of one person are near copies of each other: with random splits a network reaches
99 %, on persons that it has seen. So splits are by person.
"""

import re
from pathlib import Path
from typing import Literal

from pydantic import Field

from nas.data.classes import canonical_class_name, sort_class_names
from nas.data.image_files import ImageFileOptions
from nas.data.images import IMAGE_SUFFIXES, SQUARE
from nas.data.labelled_files import Item, PublishedForm
from nas.data.paths import FolderListing, decode_name, printable_path
from nas.data.published_set import PublishedDataset, Reading, find_folder, first_entries
from nas.data.text_lines import read_lines
from nas.errors import DataError

LABELS = ("neutral", "angry", "contempt", "disgust", "fear", "happy", "sad", "surprise")
"""Classes of the labels 0 to 7."""
CLASSES = sort_class_names(LABELS)
TEST_SHARE = 0.2
_FRAME = re.compile(r"(S\d{3})_(\d{3})_\d{8}(\D.*)?", re.IGNORECASE)
"""Stem of a frame's name: person, sequence, number."""
_IMAGES = ("cohn-kanade-images", "extended-cohn-kanade-images/cohn-kanade-images")
_EMOTIONS = ("Emotion", "Emotion_labels/Emotion", "Emotion_labels")


class _Options(ImageFileOptions):
    frames: int = Field(default=3, ge=1, le=6)
    neutral: Literal["no", "yes"] = "no"
    contempt: Literal["yes", "no"] = "yes"


class CkPlusDataset(PublishedDataset):
    """Options, besides those of `folder`.

    - `frames`: last frames of a sequence that show its expression (3).
    - `neutral`: yes adds the first frame of each labelled sequence as a class of its own (no).
    - `contempt`: no leaves the class out (yes).
    """

    name = "ckplus"
    title = "CK+"
    layout = "cohn-kanade-images and Emotion, or the class folders of CK+48"
    options = _Options

    def recognises(self, folder: Path) -> bool:
        """See `PublishedDataset.recognises`."""
        if find_folder(folder, *_IMAGES) is not None and find_folder(folder, *_EMOTIONS) is not None:
            return True
        return _is_ck48(folder)

    def read(self, root: Path, options: _Options) -> Reading:
        """See `PublishedDataset.read`."""
        left_out = {name for name in ("neutral", "contempt") if getattr(options, name) == "no"}
        listing = FolderListing(IMAGE_SUFFIXES)
        images, emotions = find_folder(root, *_IMAGES), find_folder(root, *_EMOTIONS)
        files: list[Path] = []
        if images is None or emotions is None:
            items = _read_class_folders(root, listing)
        else:
            files = FolderListing(frozenset({".txt"})).files_below(emotions)
            items = [item for file in files for item in _sequence_items(file, images, listing, options)]
        return Reading(
            items=[item for item in items if item.label not in left_out],
            index_files=files,
            notes=listing.notes(),
            form=PublishedForm(
                classes=tuple(name for name in CLASSES if name not in left_out),
                test_share=TEST_SHARE,
                test_name=f"{TEST_SHARE:.0%} of the faces, by person",
            ),
        )


def _is_ck48(folder: Path) -> bool:
    """Whether class folders hold frames of CK+."""
    folders = [entry for entry in first_entries(folder) if entry.is_dir()]
    classes = [entry for entry in folders if canonical_class_name(printable_path(entry.name)) in CLASSES]
    return len(classes) > 1 and any(
        _FRAME.fullmatch(file.stem) for entry in classes for file in first_entries(entry, 9)
    )


def _read_class_folders(root: Path, listing: FolderListing) -> list[Item]:
    items = []
    for folder in listing.folders(root):
        label = canonical_class_name(decode_name(folder))
        for path in listing.files(folder):
            match = _FRAME.fullmatch(path.stem)
            if label not in CLASSES or match is None:
                raise DataError(
                    f"{printable_path(path)} must be a frame as S010_004_00000017.png in a folder of "
                    f"{', '.join(CLASSES)}, but is not; remove it or use the data set folder"
                )
            items.append(_item(path, label, match[1]))
    return items


def _sequence_items(file: Path, images: Path, listing: FolderListing, options: _Options) -> list[Item]:
    """The last frames of a labelled sequence, and its first one as a neutral face."""
    match = _FRAME.fullmatch(file.stem)
    if match is None:
        raise DataError(
            f"{printable_path(file)} must be named as S005_001_00000011_emotion.txt, but is not; remove the file"
        )
    folder = images / match[1].upper() / match[2]
    frames = listing.files(folder) if folder.is_dir() else []
    if len(frames) <= options.frames:
        raise DataError(
            f"{printable_path(folder)} must hold more than {options.frames} frames of the labelled sequence, but has "
            f"{len(frames)}; unpack the pictures again, or give frames=1"
        )
    label = LABELS[_label(file)]
    labelled = [(frames[0], "neutral"), *((path, label) for path in frames[-options.frames :])]
    return [_item(path, name, match[1]) for path, name in labelled]


def _label(file: Path) -> int:
    lines = [(location, words[0]) for location, words in read_lines(file, n_words=1, form="one number")]
    text = lines[0][1] if len(lines) == 1 else ""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if number not in range(len(LABELS)):
        raise DataError(
            f"{printable_path(file)} must hold one label, 0 ({LABELS[0]}) to 7 ({LABELS[-1]}), but holds "
            f"{text[:20] or f'{len(lines)} lines'!r}; unpack the set again"
        )
    return int(number)


def _item(path: Path, label: str, subject: str) -> Item:
    return Item(path=path, location=printable_path(path), label=label, subject=subject.upper(), box=SQUARE)


DATASET = CkPlusDataset()
