"""CSV release of FER2013: Kaggle's `fer2013.csv` and `icml_face_data.csv`, or the competition's `train.csv`.

`train.csv` has no column of usages: a tenth of its faces becomes the selection split, the same ones each time.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nas.data.base import FaceData, Images, Split
from nas.data.classes import EXPRESSIONS, FER2013_CLASSES, canonical_class_name
from nas.data.csv_archive import open_csv
from nas.data.csv_table import read_rows
from nas.data.ferplus import USAGES, VOTE_CLASSES, FaceRows, join_votes, relabel, usage_index
from nas.data.labelled_files import require_two_classes
from nas.data.paths import printable_path
from nas.data.pixel_strings import parse_pixels
from nas.data.splits import split_off
from nas.errors import DataError

CSV_NAMES = ("fer2013.csv", "icml_face_data.csv", "train.csv")
"""Names of the release's files with labels, the most complete first."""
VAL_SHARE = 0.1
"""Share of the faces that becomes the selection split where the file has no usages."""
_SIDE = 48
_CHUNK = 256
"""Rows whose pixels are parsed at once."""


@dataclass(frozen=True, kw_only=True)
class _Table:
    """All rows of the file: their images [N, 1, 48, 48], what a join needs, and whether usages are the file's own."""

    images: Images
    rows: FaceRows
    has_usages: bool


def read_fer2013_csv(source: Path, votes: Path | None, *, relabels: bool = False) -> FaceData:
    """The data set in `fer2013.csv`, with FER+ labels or with FER+ votes beside its own.

    Args:
        source: path of the file, plain, gzipped, or in a zip or tar archive.
        votes: path of `fer2013new.csv`, or None.
        relabels: whether the labels are those of FER+; requires `votes`.

    Raises:
        DataError: a row is broken, a usage is missing, there are no labels, or the two files do not fit.
    """
    table = _read_table(source)
    splits = _by_usage(table)
    notes: tuple[str, ...] = ()
    if votes is not None:
        splits, notes = (_relabel_with_ferplus if relabels else _add_votes)(table, splits, votes)
    if not table.has_usages:
        splits, note = _carve_validation(splits["Training"], source)
        notes += (note,)
    shown, file = printable_path(source), printable_path(source.name)
    for usage in USAGES[:2]:
        if usage not in splits or not len(splits[usage]):
            raise DataError(
                f"{shown} must hold rows of usage Training and PublicTest, but has none of {usage}; download it again"
            )
    classes = EXPRESSIONS if relabels else FER2013_CLASSES
    require_two_classes({classes[i] for i in splits["Training"].labels}, source)
    return FaceData(
        name="ferplus" if relabels else "fer2013",
        classes=classes,
        train=splits["Training"],
        val=splits["PublicTest"],
        test=splits.get("PrivateTest"),
        val_name="PublicTest" if table.has_usages else "a tenth of Training",
        test_name="PrivateTest" if "PrivateTest" in splits else f"no PrivateTest rows in {file}",
        notes=notes,
        vote_classes=() if votes is None or relabels else VOTE_CLASSES,
    )


def _read_table(source: Path) -> _Table:
    usages: list[int] = []
    labels: list[int] = []
    names: list[str] = []
    blocks: list[npt.NDArray[np.uint8]] = []
    pending: list[tuple[int, str]] = []
    advice = (
        "Kaggle's test.csv has no labels: give fer2013.csv, icml_face_data.csv or train.csv, or choose another data set"
    )
    row: dict[str, str] = {}
    with open_csv(source, names=CSV_NAMES) as file:
        for number, row in read_rows(file, source=source, required=("emotion", "pixels"), advice=advice):
            usages.append(usage_index(row["usage"], source, number) if "usage" in row else 0)
            labels.append(_label(row["emotion"], source, number))
            names.append(row.get("image name", ""))
            pending.append((number, row["pixels"]))
            if len(pending) == _CHUNK:
                blocks.append(_parse_pending(pending, source))
                pending.clear()
    if pending:
        blocks.append(_parse_pending(pending, source))
    if not blocks:
        raise DataError(f"{printable_path(source)} must hold rows of faces, but has only a header; download it again")
    return _Table(
        images=np.concatenate(blocks).reshape(-1, 1, _SIDE, _SIDE),
        rows=FaceRows(
            source=source,
            labels=np.array(labels, np.int64),
            usages=np.array(usages, np.int64),
            names=names if any(names) else None,
        ),
        has_usages="usage" in row,
    )


def _by_usage(table: _Table) -> dict[str, Split]:
    chosen = {usage: table.rows.usages == i for i, usage in enumerate(USAGES)}
    return {
        usage: Split(images=table.images[rows], labels=table.rows.labels[rows])
        for usage, rows in chosen.items()
        if np.any(rows)
    }


def _carve_validation(split: Split, source: Path) -> tuple[dict[str, Split], str]:
    everything = np.ones(len(split), bool)
    chosen = split_off(split.images, split.labels, None, eligible=everything, share=VAL_SHARE)
    note = (
        f"{printable_path(source.name)} has no column of usages: {chosen.sum()} of {len(split)} faces were split off "
        "train for selection, by class and a hash of the pixels"
    )
    return {"Training": split.select(~chosen), "PublicTest": split.select(chosen)}, note


def _label(text: str, source: Path, number: int) -> int:
    if text.isdecimal() and len(text) <= 9 and int(text) < len(FER2013_CLASSES):
        return int(text)
    if canonical_class_name(text) in FER2013_CLASSES:
        return FER2013_CLASSES.index(canonical_class_name(text))
    raise DataError(
        f"{printable_path(source)}, row {number}: emotion must be 0 to 6 or one of {', '.join(FER2013_CLASSES)}, but "
        f"got {text[:40]!r}; correct or remove the row"
    )


def _parse_pending(pending: list[tuple[int, str]], source: Path) -> npt.NDArray[np.uint8]:
    try:
        return parse_pixels([text for _, text in pending], count=_SIDE * _SIDE)
    except ValueError as error:
        index, reason = str(error).split(": ", 1)
        row = pending[int(index)][0]
        raise DataError(f"{printable_path(source)}, row {row}: {reason}; correct or remove the row") from None


def _add_votes(table: _Table, splits: dict[str, Split], path: Path) -> tuple[dict[str, Split], tuple[str, ...]]:
    votes, joined = join_votes(table.rows, path)
    by_usage = {usage: votes[table.rows.usages == i] for i, usage in enumerate(USAGES)}
    return {usage: replace(split, votes=by_usage[usage]) for usage, split in splits.items()}, (joined,)


def _relabel_with_ferplus(
    table: _Table, splits: dict[str, Split], path: Path
) -> tuple[dict[str, Split], tuple[str, ...]]:
    votes, joined = join_votes(table.rows, path)
    labelled, kept = {}, []
    for i, usage in enumerate(USAGES):
        if usage in splits:
            labelled[usage] = relabel(splits[usage], votes[table.rows.usages == i])
            kept.append(f"{len(labelled[usage])} of {len(splits[usage])} {usage} faces")
    rule = "one expression holds more than half of the votes, single votes dropped, unknown and non-faces counted"
    return labelled, (f"FER+ majority labels: a face is kept where {rule}; kept are {', '.join(kept)}", joined)
