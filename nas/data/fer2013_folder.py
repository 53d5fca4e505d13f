"""The folder release of FER2013 on Kaggle: its 7,178 test images are told apart by the prefix of their file names."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from nas.data.base import FaceData, Images, Labels, Split
from nas.data.classes import EXPRESSIONS, canonical_class_name
from nas.data.images import IMAGE_SUFFIXES, read_images
from nas.errors import DataError

USAGES = ("Training", "PublicTest", "PrivateTest")
_CLASSES = EXPRESSIONS[:7]
_NOTE = "the folder release is JPEG-compressed: pixels differ slightly from fer2013.csv"


def list_images(root: Path) -> tuple[Path, ...]:
    """Every image below train/ and test/, sorted."""
    found = [p for part in ("train", "test") for p in (root / part).glob("*/*") if p.suffix.lower() in IMAGE_SUFFIXES]
    return tuple(sorted(found))


def read_fer2013_folder(root: Path, files: tuple[Path, ...]) -> FaceData:
    """The faces of the folder release.

    Raises:
        DataError: a folder is no class of FER2013, a file name says no split, or a split is empty.
    """
    usages = np.array([_usage(path) for path in files])
    labels = np.array([_label(path) for path in files], np.int64)
    for usage in ("Training", "PublicTest"):
        if usage not in usages:
            raise DataError(f"{root} must hold {usage}_*.jpg in train/<class> or test/<class>, but there is none")
    images = read_images(files, size=48, channels=1)
    has_test = "PrivateTest" in usages
    return FaceData(
        name="fer2013",
        classes=_CLASSES,
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
            f"{path}: file names must start with {', '.join(f'{u}_' for u in USAGES)} to tell the splits apart; "
            "for other class folders use the data set `folder`"
        )
    return usage


def _label(path: Path) -> int:
    name = canonical_class_name(path.parent.name)
    if name not in _CLASSES:
        raise DataError(f"{path}: the folder must be named after one of {', '.join(_CLASSES)}")
    return _CLASSES.index(name)
