"""Contract of a data set: face images as one uint8 array per split, with labels by class name."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Images of one split with their labels.

    Attributes:
        images: [N, C, H, W] uint8, C is 1 or 3.
        labels: [N] int64, index into the classes.
        soft_labels: [N, K] float32 shares of the votes that the labels are the majority of, rows sum to 1, or None.
        votes: [N, V] float32 numbers of votes of other annotators than the labels', whose classes may be others too
            (`FaceData.vote_classes`), or None. An image without votes has zeros.
        subjects: [N] int64, one number per person, or None if the persons are not known.
        affect: [N, 2] float32 valence and arousal in -1..1; NaN in rows without a label; None if no row has one.
        groups: [N] names of groups to report figures for separately; "" in rows without one; None if no row has one.
    """

    images: Images
    labels: Labels
    soft_labels: npt.NDArray[np.float32] | None = None
    votes: npt.NDArray[np.float32] | None = None
    subjects: npt.NDArray[np.int64] | None = None
    affect: npt.NDArray[np.float32] | None = None
    groups: npt.NDArray[np.str_] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def evenly_spread_rows(self, max_rows: int) -> npt.NDArray[np.int64]:
        """Row numbers of at most `max_rows` images, evenly spread from the first to the last."""
        return np.linspace(0, len(self) - 1, min(max_rows, len(self))).astype(np.int64)

    def select(self, rows: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> "Split":
        """These images, by row numbers in their order or by a mask [N], with all that is known of them."""
        known = {f.name: values[rows] for f in fields(self) if (values := getattr(self, f.name)) is not None}
        return Split(**known)


@dataclass(frozen=True, kw_only=True)
class FaceData:
    """A loaded data set: train on `train`, select on `val`, report `test` once.

    Attributes:
        name: the data set's name on the command line.
        classes: names of the classes, in label order, lower case.
        train: images for training and for INT8 calibration.
        val: images for selection.
        test: images for the final report, or None if this source has none.
        synthetic: whether the faces are drawn by code. Every report of an accuracy on them says so.
        val_name: the source's name of the selection split ("PublicTest").
        test_name: the source's name of the test split, or the reason why there is none.
        notes: facts that a reader of the figures needs, one sentence each.
        vote_classes: names of the columns of the splits' `votes`; empty where they have none.
        train_rows: rows of the source's training images that `train` keeps, in order; None where it keeps all.
        subject_names: name of each number in `Split.subjects`; empty where the source has none.
        n_folds: divisions that the protocol has, of which this is one; 1 without folds.
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
    vote_classes: tuple[str, ...] = ()
    train_rows: npt.NDArray[np.int64] | None = None
    subject_names: tuple[str, ...] = ()
    n_folds: int = 1

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images."""
        _, c, h, w = self.train.images.shape
        return c, h, w

    @cached_property
    def digest(self) -> str:
        """SHA-256 over classes, images, labels, affect and groups of all splits, 64 hexadecimal digits.

        Affect of drawn faces is left out: the options that the images depend on decide it too.
        """
        h = hashlib.sha256(",".join(self.classes).encode())
        for split in (self.train, self.val, self.test):
            if split is not None:
                h.update(np.ascontiguousarray(split.images).data)
                h.update(np.ascontiguousarray(split.labels).data)
                for values in () if self.synthetic else (split.affect, split.groups):
                    if values is not None:
                        h.update(np.ascontiguousarray(values).tobytes())
        return h.hexdigest()


class Dataset(ABC):
    """Reader of one kind of source. Stateless.

    Life: `load` is called once per process. It may cache arrays below `cache`, so that the second load takes less than
    a second; it must detect that the source has changed.
    """

    name: str

    def recognises(self, folder: Path) -> bool:
        """Whether a folder has the layout of this data set, at its own level; no message is based on it by default."""
        return False

    @abstractmethod
    def load(self, path: Path | None, *, cache: Path, options: Mapping[str, str]) -> FaceData:
        """Read the data set.

        Args:
            path: file or folder of the source; None for a data set that needs none.
            cache: folder for cached arrays; created when needed, and left out with a warning if it cannot be written.
            options: further settings of this data set, by name.

        Raises:
            DataError: a file is missing (the message gives the path and the remedy) or broken (the message gives file,
                row and reason), or an option is unknown or does not fit.
        """
