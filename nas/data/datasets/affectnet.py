"""AffectNet (Mollahosseini, Hasani and Mahoor, IEEE Transactions on Affective Computing 2019, arXiv 1708.03985): eight
expressions, valence and arousal of faces from the web.

Layouts, each with the path of the folder that holds the parts named:
- the release of 2021: `train_set` and `val_set`, each with `images/N.jpg` and `annotations/N_exp.npy`, `N_val.npy`,
  `N_aro.npy` (`N_lnd.npy` is not read);
- the release of 2017: `Manually_Annotated_file_lists/training.csv` and `validation.csv`, or both in the folder itself,
  and the pictures `Manually_Annotated_Images/DIR/HASH.jpg`. The box of the face is cut out.

The test labels were never published: everybody reports the figure of val, which is the test split here; the selection
split is carved out of train. Faces labelled none, uncertain and no face are left out. Valence and arousal of -2 mean
that there is none. Persons are not named.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal

import numpy as np

from nas.data.affect_labels import parse_affect
from nas.data.classes import sort_class_names
from nas.data.csv_table import Row, read_rows
from nas.data.image_files import ImageFileOptions
from nas.data.images import IMAGE_SUFFIXES, Box
from nas.data.labelled_files import Item, PublishedForm
from nas.data.paths import FolderListing, printable_path
from nas.data.published_set import PublishedDataset, Reading, find_file, find_folder
from nas.errors import DataError, one_line

CLASSES = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt")
"""Classes of the labels 0 to 7."""
LEFT_OUT = ("none", "uncertain", "no face")
"""Labels 8 to 10."""
_SPLITS = {"train_set": "train", "val_set": "test"}
_LISTS = {"training.csv": "train", "validation.csv": "test"}
_LIST_FOLDERS = ("Manually_Annotated_file_lists", ".", "Manually_Annotated")
_IMAGE_FOLDERS = ("Manually_Annotated_Images", "Manually_Annotated/Manually_Annotated_Images", "Manually_Annotated")
_COLUMNS = (
    "subdirectory_filepath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks", "expression",
    "valence", "arousal",
)  # fmt: skip
_TEST_NAME = "val, the published test split"
_MAX_HEADER = 4096
"""Characters of a list's first line."""


class _Options(ImageFileOptions):
    classes: Literal["7", "8"] = "8"


class AffectNetDataset(PublishedDataset):
    """Options: `classes` (8, or 7 without contempt), and those of `folder`; `size` is 64 by default."""

    name = "affectnet"
    title = "AffectNet"
    layout = "train_set and val_set, or training.csv, validation.csv and Manually_Annotated_Images"
    options = _Options
    default_size = 64  # 290,000 faces in colour take 3.6 GB

    def recognises(self, folder: Path) -> bool:
        """See `PublishedDataset.recognises`."""
        if any((folder / part / "annotations").is_dir() for part in _SPLITS):
            return True
        return _find_list(folder, "training.csv") is not None and find_folder(folder, *_IMAGE_FOLDERS) is not None

    def read(self, root: Path, options: _Options) -> Reading:
        """See `PublishedDataset.read`."""
        listing = FolderListing(IMAGE_SUFFIXES)
        lists = [path for name in _LISTS if (path := _find_list(root, name))]
        faces = list(_read_lists(root, lists) if lists else _read_annotations(root, listing))
        kept = sort_class_names(CLASSES[: int(options.classes)])
        items = [item for item in faces if item.label in kept]
        left_out = {label: sum(item.label == label for item in faces) for label in (*CLASSES, *LEFT_OUT)}
        counts = [f"{label} ({count})" for label, count in left_out.items() if count and label not in kept]
        notes = (f"faces were left out by their label: {', '.join(counts)}",) if counts else ()
        return Reading(
            items=items,
            index_files=lists,
            notes=(*notes, *listing.notes()),
            form=PublishedForm(classes=kept, test_name=_TEST_NAME),
        )


def _find_list(root: Path, name: str) -> Path | None:
    return find_file(root, *(f"{folder}/{name}" for folder in _LIST_FOLDERS))


def _read_annotations(root: Path, listing: FolderListing) -> Iterator[Item]:
    """Faces of the release of 2021."""
    for part, split in _SPLITS.items():
        annotations = root / part / "annotations"
        images = root / part / "images"
        if not annotations.is_dir():
            continue
        for path in listing.files(images) if images.is_dir() else ():
            cells = {kind: _read_array(annotations / f"{path.stem}_{kind}.npy") for kind in ("exp", "val", "aro")}
            location = printable_path(path)
            yield Item(
                path=path,
                location=location,
                label=_class(cells["exp"], location),
                split=split,
                affect=parse_affect(cells["val"], cells["aro"], location),
            )


def _read_array(path: Path) -> str:
    """The single value of an array file, as text: the release holds numbers as strings."""
    try:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            if math.prod(shape) != 1 or dtype.hasobject or dtype.itemsize > _MAX_HEADER:
                raise ValueError(f"it has shape {shape} and type {dtype}")
            value: str = str(np.frombuffer(file.read(dtype.itemsize), dtype)[0])
    except FileNotFoundError:
        raise DataError(
            f"{printable_path(path)} must be there for each picture, but is not; unpack the set again"
        ) from None
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{printable_path(path)} must be an array of one number, but is not: {one_line(error)}; unpack the set "
            "again"
        ) from None
    return value


def _read_lists(root: Path, lists: list[Path]) -> Iterator[Item]:
    """Faces of the release of 2017."""
    images = find_folder(root, *_IMAGE_FOLDERS) or root
    for path in lists:
        with path.open(encoding="utf-8-sig", newline="") as file:
            has_header = _has_header(file)
            lines = file if has_header else _WithHeader(file)
            for number, row in read_rows(lines, source=path, required=_COLUMNS):
                location = f"{printable_path(path)}, row {number if has_header else number - 1}"
                yield _listed_item(row, images, location, _LISTS[path.name])


def _listed_item(row: Row, images: Path, location: str, split: str) -> Item:
    return Item(
        path=images / row["subdirectory_filepath"],
        location=location,
        label=_class(row["expression"], location),
        split=split,
        affect=parse_affect(row["valence"], row["arousal"], location),
        box=_box(row, location),
    )


def _class(text: str, location: str) -> str:
    names = (*CLASSES, *LEFT_OUT)
    number = int(text) if re.fullmatch(r"\d{1,3}", text.strip()) else -1
    if not 0 <= number < len(names):
        raise DataError(
            f"{location}: the expression must be 0 ({names[0]}) to {len(names) - 1} ({names[-1]}), but is "
            f"{text[:40]!r}; unpack the set again"
        )
    return names[number]


def _box(row: Row, location: str) -> Box | None:
    """The face in the picture; None where the row has no box, as for pictures without a face."""
    cells = [row[name] for name in ("face_x", "face_y", "face_width", "face_height")]
    if all(cell.upper() in ("", "NULL", "NAN") for cell in cells):
        return None
    try:
        x, y, width, height = (int(float(cell)) for cell in cells)
    except (ValueError, OverflowError):
        raise DataError(f"{location}: the face's box must be four numbers, but is {cells}; correct the row") from None
    return (x, y, x + width, y + height) if width > 0 and height > 0 else None


def _has_header(file: IO[str]) -> bool:
    """Whether a list begins with the names of its columns; validation.csv does not in some copies."""
    first = file.readline(_MAX_HEADER)
    file.seek(0)
    return first.lower().startswith(_COLUMNS[0])


class _WithHeader:
    """A list without a header, as one that has it."""

    def __init__(self, file: IO[str]) -> None:
        self._file, self._is_first = file, True

    def readline(self, size: int, /) -> str:
        if self._is_first:
            self._is_first = False
            return ",".join(_COLUMNS) + "\n"
        return self._file.readline(size)


DATASET = AffectNetDataset()
