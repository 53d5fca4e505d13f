"""What a data set is to the engine: faces as one uint8 array per split, and labels by class name."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Faces of one split.

    Attributes:
        images: [N, C, H, W] uint8, C is 1 or 3.
        labels: [N] int64, index into the classes.
        soft_labels: [N, K] float32 shares of the annotators' votes, rows sum to 1, or None.
        subjects: [N] int64, one number per person, or None where persons are not known.
        affect: [N, 2] float32 valence and arousal in -1..1, or None.
        groups: [N] words by which figures are to be reported apart, or None.
    """

    images: Images
    labels: Labels
    soft_labels: npt.NDArray[np.float32] | None = None
    subjects: npt.NDArray[np.int64] | None = None
    affect: npt.NDArray[np.float32] | None = None
    groups: npt.NDArray[np.str_] | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True)
class FaceData:
    """A loaded data set. Train on `train`, choose on `val`, report `test` once.

    Attributes:
        name: the data set's word.
        classes: names of the classes, in label order, lower case.
        train: faces to learn from; INT8 calibration uses these too.
        val: faces to choose by.
        test: faces to report on once, or None where the data set has none here.
        synthetic: whether the faces are drawn by code. Wherever an accuracy appears, this is said.
        val_name: what the source calls the selection split ("PublicTest").
        test_name: what the source calls the test split, or why there is none.
        notes: what a reader of the figures has to know, one sentence each.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    val: Split
    test: Split | None
    synthetic: bool = False
    val_name: str = "val"
    test_name: str = "test"
    notes: tuple[str, ...] = ()

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images."""
        _, c, h, w = self.train.images.shape
        return c, h, w

    @cached_property
    def digest(self) -> str:
        """SHA-256 over classes, images and labels of all splits, 64 hexadecimal digits."""
        h = hashlib.sha256(",".join(self.classes).encode())
        for split in (self.train, self.val, self.test):
            if split is not None:
                h.update(np.ascontiguousarray(split.images).data)
                h.update(np.ascontiguousarray(split.labels).data)
        return h.hexdigest()


class Dataset(ABC):
    """Knows one kind of source and how to read it.

    Life: `load` is called once per process; it may keep a cache of arrays below `cache` so that the second load takes
    under a second, and must notice when the source has changed.
    """

    name: str

    @abstractmethod
    def load(self, path: Path | None, *, cache: Path, options: Mapping[str, str]) -> FaceData:
        """Read the faces.

        Args:
            path: file or folder of the source; None for a data set that needs none.
            cache: folder for arrays of earlier loads; made when needed.
            options: further settings of this data set, by name; an unknown name is refused.

        Raises:
            DataError: a file is missing (the message gives the path and what to do) or broken (file, row, reason).
        """
