"""Protocols: a data set divided anew into training, selection and test, by person wherever persons are known.

- holdout: about a seventh of the faces each for test and selection.
- kfold:K: K parts of about equal size; each is the test split of one fold.
- loso: each person is the test split of one fold.
- folds:FILE: a CSV table with the columns subject and fold says which fold tests a subject.

Of the faces that a fold does not test, an eighth selects. Whole units are moved: persons, else exact copies of an
image. Units are assigned greedily, the largest first, each to the part that has least of the unit's classes, which
stratifies as far as the units allow. The result depends on the pixels, labels and units only, not on the order of the
images.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.config.protocol import Protocol
from nas.data.base import FaceData, Images, Labels, Split
from nas.data.csv_table import read_rows
from nas.data.paths import printable_path
from nas.errors import DataError
from nas.files import regular_file_fault

HOLDOUT_PARTS = 7
"""Parts of a holdout, one of which tests and one selects."""
SELECTION_PARTS = 8
"""Parts of what a fold does not test, one of which selects."""

IntArray = npt.NDArray[np.int64]


def divide(data: FaceData, protocol: Protocol, *, fold: int = 0) -> FaceData:
    """The data with the splits of a protocol.

    Args:
        data: with the splits of its source.
        protocol: how to divide it.
        fold: number of the fold, from 0; 0 where the protocol has none.

    Raises:
        DataError: there are too few persons or images, the persons are not known or a file of folds does not name them
            all, a split would have no image, or a training split would have fewer than two classes.
    """
    if protocol.kind == "official":
        return data
    pooled = pool([split for split in (data.train, data.val, data.test) if split is not None])
    units, by = _units(pooled)
    if protocol.kind == "holdout":
        parts = assign_parts(pooled.images, pooled.labels, units, n_parts=_require_units(units, by, HOLDOUT_PARTS, 3))
        tests, selects, n_folds = parts == 0, parts == 1, 1
        name, rule = "holdout", f"about a seventh of the faces each, by {by}"
    else:
        folds, names = _folds(data, pooled, units, by, protocol)
        n_folds = len(names)
        tests = folds == fold
        selects = _selection(pooled, units, ~tests)
        name, rule = names[fold], f"{n_folds} folds by {by}, and an eighth of the other faces selects"
    train = pooled.select(~tests & ~selects)
    if len(np.unique(train.labels)) < 2:
        raise DataError(
            f"protocol {protocol.kind} must leave training faces of at least two classes, but {name} has only "
            f"{len(np.unique(train.labels))}; use fewer folds or another protocol"
        )
    notes = [f"protocol {protocol.kind}, in place of the source's own splits: {rule}"]
    if n_folds > 1:
        notes.append("a search sees one fold, whose training and selection faces are tested in other folds")
    return replace(
        data, train=train, val=pooled.select(selects), test=pooled.select(tests), n_folds=n_folds,
        val_name=f"selection split of {name}", test_name=name, notes=(*data.notes, *notes), train_rows=None,
    )  # fmt: skip


def pool(splits: Sequence[Split]) -> Split:
    """All images in one split. What only some splits know is kept for them; subjects and soft labels need all."""
    optional = {f.name: [getattr(split, f.name) for split in splits] for f in fields(Split)}
    known = {name: np.concatenate(values) for name, values in optional.items() if all(v is not None for v in values)}
    for name in ("affect", "groups"):
        values = optional[name]
        if name not in known and any(v is not None for v in values):
            filled = [_blank(name, len(split)) if v is None else v for v, split in zip(values, splits, strict=True)]
            known[name] = np.concatenate(filled)
    return Split(**known)


def _blank(name: str, count: int) -> npt.NDArray[Any]:
    """Rows without affect or without a group."""
    return np.full((count, 2), np.nan, np.float32) if name == "affect" else np.full(count, "", np.str_)


def assign_parts(images: Images, labels: Labels, units: IntArray, *, n_parts: int) -> IntArray:
    """The part of each image, so that units stay whole and each part has about the same share of each class.

    Args:
        images: [N, C, H, W]; their pixels decide the order among units of one size.
        labels: [N] class of each image.
        units: [N] number of the unit of each image, such as its person.
        n_parts: number of parts, at most that of the units.

    Returns:
        [N] part from 0. No part is empty.
    """
    unit_of = np.unique(units, return_inverse=True)[1]
    counts = np.zeros((unit_of.max() + 1, labels.max() + 1), np.int64)
    np.add.at(counts, (unit_of, labels), 1)
    keys = _unit_keys(images, unit_of)
    order = sorted(range(len(counts)), key=lambda unit: (-counts[unit].sum(), keys[unit], counts[unit].tolist()))
    weight = 1.0 / np.maximum(counts.sum(axis=0), 1)
    filled = np.zeros((n_parts, counts.shape[1]), np.int64)
    part_of_unit = np.zeros(len(counts), np.int64)
    for place, unit in enumerate(order):
        # What the sum of squared shares grows by, 2 x filled x count + count^2, whose second term is the same anywhere.
        load = (filled * (counts[unit] * weight**2)).sum(axis=1)
        sizes = filled.sum(axis=1)
        # The first units go to one part each, so that none stays empty.
        free = np.flatnonzero(sizes == 0) if len(order) - place <= int((sizes == 0).sum()) else np.arange(n_parts)
        best = min(free, key=lambda part: (round(float(load[part]), 12), sizes[part], part))
        filled[best] += counts[unit]
        part_of_unit[unit] = best
    return part_of_unit[unit_of]


def _units(pooled: Split) -> tuple[IntArray, str]:
    """The unit of each image that must stay whole, and what it is called."""
    if pooled.subjects is not None:
        return pooled.subjects, "subject"
    digests = _digests(pooled.images)
    return np.unique(digests, return_inverse=True)[1].astype(np.int64), "image"


def _require_units(units: IntArray, by: str, wanted: int, least: int) -> int:
    """The number of parts: as wanted, or fewer where there are fewer units."""
    count = len(np.unique(units))
    if count < least:
        raise DataError(
            f"the protocol needs at least {least} {by}s, but the data set has {count}; use another protocol"
        )
    return min(wanted, count)


def _selection(pooled: Split, units: IntArray, rest: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The images [N] of the rest that select."""
    rows = np.flatnonzero(rest)
    n_parts = min(SELECTION_PARTS, len(np.unique(units[rows])))
    if n_parts < 2:
        raise DataError(
            "each fold must leave at least two subjects or images for training and selection, but one leaves fewer; "
            "use fewer or smaller folds"
        )
    parts = assign_parts(pooled.images[rows], pooled.labels[rows], units[rows], n_parts=n_parts)
    chosen = np.zeros(len(rest), bool)
    chosen[rows[parts == 0]] = True
    return chosen


def _folds(
    data: FaceData, pooled: Split, units: IntArray, by: str, protocol: Protocol
) -> tuple[IntArray, tuple[str, ...]]:
    """The fold [N] that tests each image, and the folds' names."""
    if protocol.kind == "kfold":
        n_folds = protocol.n_folds or 0
        _require_units(units, by, n_folds, n_folds)
        folds = assign_parts(pooled.images, pooled.labels, units, n_parts=n_folds)
        return folds, tuple(f"fold {i + 1} of {n_folds}" for i in range(n_folds))
    if pooled.subjects is None:
        raise DataError(
            f"protocol {protocol.kind} needs a data set that names the subject of each face, but {data.name} does not; "
            "use kfold:K, or add the column subject to a table of the data set csv"
        )
    numbers, folds = np.unique(pooled.subjects, return_inverse=True)
    names = [data.subject_names[n] if n < len(data.subject_names) else str(n) for n in numbers.tolist()]
    if protocol.kind == "loso":
        _require_units(units, by, 3, 3)
        return folds.astype(np.int64), tuple(f"subject {name} left out" for name in names)
    fold_of_subject, labels = _read_folds(protocol.file or Path(), names)
    return fold_of_subject[folds], tuple(f"fold {label} of {len(labels)}" for label in labels)


def _read_folds(path: Path, names: Sequence[str]) -> tuple[IntArray, tuple[str, ...]]:
    """The fold of each subject of a data set, and the folds' names, numbers by value."""
    shown = printable_path(path)
    if (fault := regular_file_fault(path)) is not None:
        raise DataError(f"folds:{shown} {fault}; give the path of a CSV table with the columns subject and fold")
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [(row["subject"], row["fold"]) for _, row in read_rows(file, source=path, required=("subject", "fold"))]
    repeated = [subject for subject, count in Counter(subject for subject, _ in rows).items() if count > 1]
    if repeated:
        raise DataError(f"{shown} must name each subject once, but names {repeated[0][:40]!r} again; remove a row")
    by_name = dict(rows)
    missing = [name for name in names if not by_name.get(name)]
    if missing:
        raise DataError(
            f"{shown} must give a fold to each of the {len(names)} subjects, but gives none to {missing[0][:40]!r}; "
            "add a row, with the subject as the data set names it"
        )
    used = {by_name[name] for name in names}
    labels = sorted(used, key=lambda label: (int(label) if label.isdecimal() and len(label) < 10 else -1, label))
    if len(labels) < 2:
        raise DataError(f"{shown} must name at least two folds, but names {len(labels)}; check the column fold")
    return np.array([labels.index(by_name[name]) for name in names], np.int64), tuple(labels)


def _unit_keys(images: Images, unit_of: IntArray) -> list[str]:
    """A digest of each unit's images, in whatever order they come."""
    digests = _digests(images)
    order = np.lexsort((digests, unit_of))
    bounds = np.flatnonzero(np.diff(unit_of[order])) + 1
    return [hashlib.sha256("".join(group).encode()).hexdigest() for group in np.split(digests[order], bounds)]


def _digests(images: Images) -> npt.NDArray[np.str_]:
    return np.array([hashlib.sha256(image.tobytes()).hexdigest() for image in images], np.str_)
