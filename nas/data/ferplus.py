"""FER+ votes for the rows of FER2013 (Microsoft's `fer2013new.csv`), their majority labels, and the join by rows.

FER+ labels follow Barsoum et al., "Training deep networks for facial expression recognition with crowd-sourced label
distribution" (ICMI 2016), https://github.com/microsoft/FERPlus, in its majority mode: of ten annotators' votes for a
face, votes of a single annotator are dropped. A face is kept if one expression has more than half of the remaining
votes, those for "unknown" and "not a face" included.

The two files are joined by image name, else by row. FER+ names the images by number in the order of rows and leaves
those without a face unnamed. A join is proved by the labels: on the original files, 67.7 % of the majority labels equal
FER2013's, and 62.6 % in the lowest of all blocks of 500 faces; shuffled rows agree on 19 %.
"""

import itertools
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nas.data.base import Labels, Split
from nas.data.classes import EXPRESSIONS, canonical_class_name
from nas.data.csv_archive import open_csv
from nas.data.csv_table import read_rows
from nas.data.paths import printable_path
from nas.errors import DataError
from nas.files import regular_file_fault

USAGES = ("Training", "PublicTest", "PrivateTest")
"""FER2013's names of the training, selection and test split."""
MIN_AGREEMENT = 0.5
"""Lowest share of kept faces whose majority label is FER2013's."""
_MIN_CHECKED = 20
"""Faces below which agreement is no evidence."""
_BLOCK = 500
"""Faces whose agreement is checked at once: a row that is missing shifts all faces from there on."""
VOTE_CLASSES = (*EXPRESSIONS, "unknown", "nf")
"""What annotators may vote for: the expressions in canonical order, unknown, not a face."""

Votes = npt.NDArray[np.float32]
"""[N, 10] votes for faces, one column for each of `VOTE_CLASSES`."""
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class FaceRows:
    """What a join needs of the faces in `fer2013.csv`, in the order of its rows.

    Attributes:
        source: path of the file, for messages.
        labels: [N] labels of FER2013.
        usages: [N] index into `USAGES`.
        names: [N] image names, or None if the file has none.
    """

    source: Path
    labels: Labels
    usages: IntArray
    names: list[str] | None = None


@dataclass(frozen=True, kw_only=True)
class _VoteRows:
    path: Path
    votes: Votes
    usages: IntArray
    names: list[str]


def find_ferplus_votes(source: Path, explicit_path: Path | None) -> Path:
    """The path of `fer2013new.csv`: the explicit path, else in the folder of the source.

    Raises:
        DataError: there is no such file, or it is a pipe or a device.
    """
    path = explicit_path or source.with_name("fer2013new.csv")
    if (fault := regular_file_fault(path)) is not None:
        raise DataError(
            f"FER+ needs {printable_path(path)}, which {fault}; download it from "
            "github.com/microsoft/FERPlus and give its path as ferplus=PATH"
        )
    return path


def join_votes(faces: FaceRows, path: Path) -> tuple[Votes, str]:
    """The votes for each face, and a sentence about how they were joined and how far the labels agree.

    Args:
        faces: the rows of `fer2013.csv`.
        path: of `fer2013new.csv`.

    Returns:
        [N, 10] votes; a face without votes has zeros.

    Raises:
        DataError: a row is broken, the files have different rows, or their labels agree less than they do by row.
    """
    rows = _read_votes(path)
    numbers = [_number(name) for name in rows.names]
    if faces.names is not None and any(rows.names):
        votes, rule = _join_by_name(faces, rows), "image name"
    elif _is_in_order(numbers):
        votes, rule = _join_by_row(faces, rows), "row"
    else:
        votes, rule = _join_by_number(faces, rows, numbers), "the number in the image name"
    return votes, f"FER+ votes were joined by {rule}; {_check_agreement(faces, votes, path)}"


def _read_votes(path: Path) -> _VoteRows:
    shown = printable_path(path)
    votes: list[list[float]] = []
    usages: list[int] = []
    names: list[str] = []
    with open_csv(path, names=("fer2013new.csv",)) as file:
        for number, row in read_rows(file, source=path, required=("usage", "unknown", "nf")):
            by_class = {canonical_class_name(name): cell for name, cell in row.items()}
            try:
                cells = [float(by_class[name]) for name in VOTE_CLASSES]
            except (KeyError, ValueError) as error:
                raise DataError(
                    f"{shown}, row {number}: the row must hold numbers of votes for {', '.join(VOTE_CLASSES)}, but "
                    f"does not: {error}; download the file again"
                ) from None
            if not all(math.isfinite(cell) and 0 <= cell <= 1000 for cell in cells):
                raise DataError(
                    f"{shown}, row {number}: numbers of votes must be from 0 to 1000, but got {cells}; download the "
                    "file again"
                )
            votes.append(cells)
            usages.append(usage_index(row["usage"], path, number))
            names.append(row.get("image name", ""))
    return _VoteRows(
        path=path,
        votes=np.array(votes, np.float32).reshape(-1, len(VOTE_CLASSES)),
        usages=np.array(usages, np.int64),
        names=names,
    )


def usage_index(text: str, source: Path, number: int) -> int:
    """The index of a usage.

    Raises:
        DataError: there is no such usage; the message names file and row.
    """
    if text not in USAGES:
        raise DataError(
            f"{printable_path(source)}, row {number}: usage must be one of {', '.join(USAGES)}, but got "
            f"{text[:40]!r}; correct or remove the row"
        )
    return USAGES.index(text)


def _number(name: str) -> int | None:
    """The number of an image name as FER+ writes it, "fer0000012.png"."""
    match = re.fullmatch(r"fer(\d{1,9})(\.\w+)?", name)
    return int(match[1]) if match else None


def _is_in_order(numbers: list[int | None]) -> bool:
    known = [number for number in numbers if number is not None]
    return all(a < b for a, b in itertools.pairwise(known))


def _join_by_name(faces: FaceRows, rows: _VoteRows) -> Votes:
    named = [(name, i) for i, name in enumerate(rows.names) if name]
    by_name = dict(named)
    if len(by_name) != len(named):
        raise DataError(
            f"{printable_path(rows.path)} must name each image once, but {len(named) - len(by_name)} names repeat; "
            "download the file again"
        )
    votes = np.zeros((len(faces.labels), len(VOTE_CLASSES)), np.float32)
    matches = [(i, by_name[name]) for i, name in enumerate(faces.names or ()) if name in by_name]
    if len(matches) < len(votes) / 2:
        raise DataError(
            f"{printable_path(rows.path)} must hold votes for the images of {printable_path(faces.source)}, but names "
            f"only {len(matches)} of its {len(votes)} images; use files whose image names are the same"
        )
    for face, row in matches:
        votes[face] = rows.votes[row]
    return votes


def _join_by_row(faces: FaceRows, rows: _VoteRows) -> Votes:
    votes = np.zeros((len(faces.labels), len(VOTE_CLASSES)), np.float32)
    for i, usage in enumerate(USAGES):
        expected, got = int(np.sum(faces.usages == i)), int(np.sum(rows.usages == i))
        if expected and got != expected:
            raise DataError(
                f"{printable_path(rows.path)} must have one row for each row of {printable_path(faces.source)}, but "
                f"has {got} of usage {usage}, not {expected}; use the original files of both"
            )
        if expected:
            votes[faces.usages == i] = rows.votes[rows.usages == i]
    return votes


def _join_by_number(faces: FaceRows, rows: _VoteRows, numbers: list[int | None]) -> Votes:
    """Join rows in another order than the numbers of their images, which count the rows of `fer2013.csv` from 0."""
    votes = np.zeros((len(faces.labels), len(VOTE_CLASSES)), np.float32)
    taken: set[int] = set()
    for row, number in enumerate(numbers):
        usage = int(rows.usages[row])
        if number is None or not np.any(faces.usages == usage):
            continue
        if number in taken or number >= len(votes) or faces.usages[number] != usage:
            raise DataError(
                f"{printable_path(rows.path)} has its rows in another order than {printable_path(faces.source)}, and "
                f"image {rows.names[row]!r} fits no row there; use the original files of both"
            )
        taken.add(number)
        votes[number] = rows.votes[row]
    return votes


def _check_agreement(faces: FaceRows, votes: Votes, path: Path) -> str:
    """A sentence about how many labels agree.

    Raises:
        DataError: too few do, over all or in a block of faces.
    """
    labels, kept = majority_labels(votes)
    rows = np.flatnonzero(kept)
    # Joins by row are within a usage, so a fault of one must not hide among the rows of another.
    rows = rows[np.argsort(faces.usages[rows], kind="stable")]
    if len(rows) < _MIN_CHECKED:
        return f"{len(rows)} faces are too few to check the order of rows by the labels"
    equal = labels[rows] == faces.labels[rows]
    agreement = float(equal.mean())
    # The agreement of each face with a random row of FER+.
    chance = (np.bincount(labels[rows], minlength=len(EXPRESSIONS)) / len(rows))[faces.labels[rows]]
    remedy = "use the original files of both, with their rows in the same order"
    files = f"{printable_path(path)} and {printable_path(faces.source)}"
    if agreement < MIN_AGREEMENT:
        raise DataError(
            f"the labels of {files} must agree on at least {MIN_AGREEMENT:.0%} of the faces, but agree on "
            f"{agreement:.1%}; {remedy}"
        )
    last = len(rows) - _BLOCK
    for start in (*range(0, last, _BLOCK), last) if last >= 0 else ():
        block = slice(start, start + _BLOCK)
        got, by_chance = float(equal[block].mean()), float(chance[block].mean())
        if got < (by_chance + agreement) / 2:
            raise DataError(
                f"the labels of {files} must agree in all parts, but agree on {got:.1%} of the faces from row "
                f"{rows[block].min() + 2} to {rows[block].max() + 2} and on {agreement:.1%} of all; {remedy}"
            )
    return f"labels agree with FER2013's on {agreement:.1%} of the kept faces"


def majority_labels(votes: Votes) -> tuple[Labels, npt.NDArray[np.bool_]]:
    """The label [N] with the most votes, and whether it has a majority [N]; votes are [N, 10]."""
    votes = np.where(votes > 1, votes, 0)
    label = votes.argmax(axis=1)
    # Columns 8 and 9 are unknown and not a face: they count in the sum, and a majority for them drops the face.
    keep = (votes.max(axis=1) > 0.5 * votes.sum(axis=1)) & (label < len(EXPRESSIONS))
    return label.astype(np.int64), keep


def relabel(split: Split, votes: Votes) -> Split:
    """The faces of a split with a majority among the annotators, with FER+ labels and soft labels.

    Args:
        split: faces with any labels.
        votes: [N, 10], one row for each face.

    Returns:
        The faces that are kept. Soft labels are shares of the votes for the eight expressions, without single votes.
    """
    label, keep = majority_labels(votes)
    return replace(split.select(keep), labels=label[keep], soft_labels=expression_shares(votes[keep]))


def expression_shares(votes: Votes) -> npt.NDArray[np.float32]:
    """Shares [N, 8] of the votes [N, 10] for the eight expressions, without single votes; rows sum to 1.

    Every row must have more than one vote for an expression, as the kept rows of `majority_labels` have.
    """
    shares = np.where(votes > 1, votes, 0)[:, : len(EXPRESSIONS)]
    return np.asarray(shares / shares.sum(axis=1, keepdims=True), np.float32)
