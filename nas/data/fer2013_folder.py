"""Folder release of FER2013 on Kaggle: the file name's prefix says which split each of the 7,178 test images is in."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from nas.data.base import FaceData, Images, Labels, Split
from nas.data.classes import FER2013_CLASSES, canonical_class_name
from nas.data.fer2013_csv import USAGES
from nas.data.images import IMAGE_SUFFIXES, read_images
from nas.errors import DataError

_NOTE = "the folder release is JPEG-compressed: pixels differ slightly from fer2013.csv"


def list_images(root: Path) -> tuple[Path, ...]:
    """All image files in class folders below train/ and test/, sorted."""
    files = [p for part in ("train", "test") for p in (root / part).glob("*/*") if p.suffix.lower() in IMAGE_SUFFIXES]
    return tuple(sorted(files))


def read_fer2013_folder(root: Path, files: tuple[Path, ...]) -> FaceData:
    """The data set in the folder release.

    Args:
        root: the folder with train/ and test/.
        files: from `list_images`.

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
                f"{root} must hold {usage}_*.jpg in train/<class> or test/<class>, but has none; download it again"
            )
    images = read_images(files, size=48, channels=1)
    has_test = "PrivateTest" in usages
    return FaceData(
        name="fer2013",
        classes=FER2013_CLASSES,
        train=_split(images, labels, usages == "Training"),
        val=_split(images, labels, usages == "PublicTest"),
        test=_split(images, labels, usages == "PrivateTest") if has_test else None,
        val_name="PublicTest",
        test_name="PrivateTest" if has_test else f"no PrivateTest files in {root.name}/test",
        notes=(_NOTE,),
    )


def _split(images: Images, labels: Labels, chosen: npt.NDArray[np.bool_]) -> Split:
    return Split(images=images[chosen], labels=labels[chosen])


def _usage(path: Path) -> str:
    usage = path.name.split("_")[0]
    if usage not in USAGES:
        raise DataError(
            f"{path}: the file name must start with {', '.join(f'{u}_' for u in USAGES)}, which give its split; "
            "for other class folders use the data set `folder`"
        )
    return usage


def _label(path: Path) -> int:
    name = canonical_class_name(path.parent.name)
    if name not in FER2013_CLASSES:
        raise DataError(
            f"{path}: the folder must be named after one of {', '.join(FER2013_CLASSES)}, but is named "
            f"{path.parent.name!r}; for other classes use the data set `folder`"
        )
    return FER2013_CLASSES.index(name)
