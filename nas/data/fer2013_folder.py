"""Folder release of FER2013 on Kaggle: the file name's prefix says which split each of the 7,178 test images is in."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from nas.data.base import FaceData, Images, Labels, Split
from nas.data.classes import FER2013_CLASSES, canonical_class_name
from nas.data.ferplus import USAGES
from nas.data.images import IMAGE_SUFFIXES, read_images
from nas.data.labelled_files import require_two_classes
from nas.data.paths import FolderListing, printable_path
from nas.errors import DataError

_NOTE = "the folder release is JPEG-compressed: pixels differ slightly from fer2013.csv"


def list_images(root: Path) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """All image files in class folders below train/ and test/, sorted, and notes about files that were left out."""
    listing = FolderListing(IMAGE_SUFFIXES)
    parts = [root / part for part in ("train", "test") if (root / part).is_dir()]
    loose = [file for part in parts for file in listing.files(part)]
    files = [file for part in parts for folder in listing.folders(part) for file in listing.files(folder)]
    notes = (f"images outside class folders were left out: {len(loose)}",) if loose else ()
    return tuple(sorted(files)), (*notes, *listing.notes())


def read_fer2013_folder(root: Path, files: tuple[Path, ...], notes: tuple[str, ...] = ()) -> FaceData:
    """The data set in the folder release.

    Args:
        root: the folder with train/ and test/.
        files: from `list_images`.
        notes: from `list_images`.

    Raises:
        DataError: a folder is not named after a class, a file name has no known prefix, a split is empty, or an image
            is broken.
        MissingPackageError: pillow is not installed.
    """
    usages = np.array([_usage(path) for path in files])
    labels = np.array([_label(path) for path in files], np.int64)
    for usage in USAGES[:2]:
        if usage not in usages:
            raise DataError(
                f"{printable_path(root)} must hold {usage}_*.jpg in train/<class> or test/<class>, but has none; "
                "download it again"
            )
    require_two_classes({FER2013_CLASSES[i] for i in labels[usages == "Training"]}, root)
    images = read_images(files, size=48, channels=1)
    has_test = "PrivateTest" in usages
    return FaceData(
        name="fer2013",
        classes=FER2013_CLASSES,
        train=_split(images, labels, usages == "Training"),
        val=_split(images, labels, usages == "PublicTest"),
        test=_split(images, labels, usages == "PrivateTest") if has_test else None,
        val_name="PublicTest",
        test_name="PrivateTest" if has_test else f"no PrivateTest files in {printable_path(root.name)}/test",
        notes=(_NOTE, *notes),
    )


def _split(images: Images, labels: Labels, chosen: npt.NDArray[np.bool_]) -> Split:
    return Split(images=images[chosen], labels=labels[chosen])


def _usage(path: Path) -> str:
    usage = path.name.split("_")[0]
    if usage not in USAGES:
        raise DataError(
            f"{printable_path(path)}: the file name must start with {', '.join(f'{u}_' for u in USAGES)}, "
            "which give its split; for other class folders use the data set `folder`"
        )
    return usage


def _label(path: Path) -> int:
    name = canonical_class_name(printable_path(path.parent.name))
    if name not in FER2013_CLASSES:
        raise DataError(
            f"{printable_path(path)}: the folder must be named after one of {', '.join(FER2013_CLASSES)}, but is named "
            f"{printable_path(path.parent.name)!r}; for other classes use the data set `folder`"
        )
    return FER2013_CLASSES.index(name)
