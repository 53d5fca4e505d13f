"""CSV release of FER2013 (Kaggle's `fer2013.csv`), and the FER+ votes for its rows (Microsoft's `fer2013new.csv`).

FER+ labels follow Barsoum et al., "Training deep networks for facial expression recognition with crowd-sourced label
distribution" (ICMI 2016), https://github.com/microsoft/FERPlus, in its majority mode: of ten annotators' votes for a
face, votes of a single annotator are dropped. A face is kept if one expression has more than half of the remaining
votes, those for "unknown" and "not a face" included.
"""

import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from nas.data.base import FaceData, Labels, Split
from nas.data.classes import EXPRESSIONS, FER2013_CLASSES, canonical_class_name
from nas.data.csv_table import read_rows
from nas.data.pixel_strings import parse_pixels
from nas.errors import DataError

USAGES = ("Training", "PublicTest", "PrivateTest")
"""FER2013's names of the training, selection and test split."""
_SIDE = 48
_CHUNK = 256
"""Rows whose pixels are parsed at once."""

Votes = npt.NDArray[np.float32]
"""[N, 10] votes for the faces of one usage: the eight expressions in canonical order, unknown, not a face."""


def read_fer2013_csv(source: Path, votes: Path | None) -> FaceData:
    """The data set in `fer2013.csv`, with FER+ labels if `votes` is given.

    Args:
        source: path of `fer2013.csv`, plain, gzipped, or in a zip or tar archive.
        votes: path of `fer2013new.csv`, or None.

    Raises:
        DataError: a row is broken, a usage is missing, or the two files have different numbers of rows.
    """
    splits = _read_splits(source)
    for usage in USAGES[:2]:
        if usage not in splits:
            raise DataError(
                f"{source} must hold rows of usage Training and PublicTest, but has none of {usage}; download it again"
            )
    notes: tuple[str, ...] = ()
    if votes is not None:
        splits, notes = _relabel_with_ferplus(splits, source, votes)
    return FaceData(
        name="fer2013" if votes is None else "ferplus",
        classes=FER2013_CLASSES if votes is None else EXPRESSIONS,
        train=splits["Training"],
        val=splits["PublicTest"],
        test=splits.get("PrivateTest"),
        val_name="PublicTest",
        test_name="PrivateTest" if "PrivateTest" in splits else f"no PrivateTest rows in {source.name}",
        notes=notes,
    )


def find_ferplus_votes(source: Path, explicit_path: Path | None) -> Path:
    """The path of `fer2013new.csv`: the explicit path, else in the folder of the source.

    Raises:
        DataError: there is no such file.
    """
    path = explicit_path or source.with_name("fer2013new.csv")
    if not path.is_file():
        raise DataError(
            f"labels=ferplus needs {path}, which does not exist; download it from github.com/microsoft/FERPlus and "
            "give its path as ferplus=PATH"
        )
    return path


def _read_splits(source: Path) -> dict[str, Split]:
    usages: list[int] = []
    labels: list[int] = []
    blocks: list[npt.NDArray[np.uint8]] = []
    pending: list[tuple[int, str]] = []
    with _open(source) as file:
        for number, row in read_rows(file, source=source, required=("emotion", "pixels", "usage")):
            usages.append(_usage(row["usage"], source, number))
            labels.append(_label(row["emotion"], source, number))
            pending.append((number, row["pixels"]))
            if len(pending) == _CHUNK:
                blocks.append(_parse_pending(pending, source))
                pending.clear()
    if pending:
        blocks.append(_parse_pending(pending, source))
    if not blocks:
        raise DataError(f"{source} must hold rows of faces, but has only a header; download it again")
    images = np.concatenate(blocks).reshape(-1, 1, _SIDE, _SIDE)
    return _by_usage(images, np.array(labels, np.int64), np.array(usages))


def _by_usage(images: npt.NDArray[np.uint8], labels: Labels, usages: npt.NDArray[np.int64]) -> dict[str, Split]:
    return {
        usage: Split(images=images[usages == i], labels=labels[usages == i])
        for i, usage in enumerate(USAGES)
        if np.any(usages == i)
    }


def _usage(text: str, source: Path, number: int) -> int:
    if text not in USAGES:
        raise DataError(
            f"{source}, row {number}: usage must be one of {', '.join(USAGES)}, but got {text!r}; correct or remove "
            "the row"
        )
    return USAGES.index(text)


def _label(text: str, source: Path, number: int) -> int:
    if text.isdecimal() and int(text) < len(FER2013_CLASSES):
        return int(text)
    if canonical_class_name(text) in FER2013_CLASSES:
        return FER2013_CLASSES.index(canonical_class_name(text))
    raise DataError(
        f"{source}, row {number}: emotion must be 0 to 6 or one of {', '.join(FER2013_CLASSES)}, but got {text!r}; "
        "correct or remove the row"
    )


def _parse_pending(pending: list[tuple[int, str]], source: Path) -> npt.NDArray[np.uint8]:
    try:
        return parse_pixels([text for _, text in pending], count=_SIDE * _SIDE)
    except ValueError as error:
        index, reason = str(error).split(": ", 1)
        raise DataError(f"{source}, row {pending[int(index)][0]}: {reason}; correct or remove the row") from None


@contextmanager
def _open(source: Path) -> Iterator[IO[str]]:
    """The CSV text, unpacked from .gz, .tar.gz and .zip."""
    try:
        with _open_bytes(source) as raw, io.TextIOWrapper(raw, encoding="utf-8", newline="") as text:
            yield text
    except (OSError, EOFError, zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError) as error:
        raise DataError(
            f"{source} must be a readable file or archive, but cannot be unpacked: {error}; download it again"
        ) from None


@contextmanager
def _open_bytes(source: Path) -> Iterator[IO[bytes]]:
    if source.suffix == ".zip":
        with zipfile.ZipFile(source) as archive, archive.open(_find_csv_member(archive.namelist(), source)) as raw:
            yield raw
    elif source.name.endswith((".tar.gz", ".tgz", ".tar")):
        with tarfile.open(source) as tar:
            inner = tar.extractfile(_find_csv_member(tar.getnames(), source))
            if inner is None:
                raise DataError(
                    f"{source} must hold fer2013.csv as a file, but holds a folder of that name; unpack it and give "
                    "the path of the file"
                )
            yield inner
    else:
        with gzip.open(source) if source.suffix == ".gz" else source.open("rb") as raw:
            yield raw  # type: ignore[misc]  # GzipFile reads bytes, but is no IO[bytes] to mypy


def _find_csv_member(names: list[str], source: Path) -> str:
    tables = [name for name in names if name.endswith(".csv") and not name.startswith("__MACOSX")]
    best = next((name for name in tables if Path(name).name in ("fer2013.csv", "icml_face_data.csv")), None)
    if best is None and len(tables) != 1:
        raise DataError(
            f"{source} must hold fer2013.csv, but holds {len(tables)} other CSV files; "
            "if it is the folder release, unpack it and give the path of the folder"
        )
    return best or tables[0]


def _relabel_with_ferplus(
    splits: dict[str, Split], source: Path, path: Path
) -> tuple[dict[str, Split], tuple[str, ...]]:
    votes = _read_votes(path)
    labelled, kept = {}, []
    for usage, split in splits.items():
        if len(votes[usage]) != len(split):
            raise DataError(
                f"{path} must have one row for each row of {source}, but has {len(votes[usage])} of usage {usage}, "
                f"not {len(split)}; use the original files of both"
            )
        labelled[usage] = relabel(split, votes[usage])
        kept.append(f"{len(labelled[usage])} of {len(split)} {usage} faces")
    rule = "one expression holds more than half of the votes, single votes dropped, unknown and non-faces counted"
    return labelled, (f"FER+ majority labels: a face is kept where {rule}; kept are {', '.join(kept)}",)


def _read_votes(path: Path) -> dict[str, Votes]:
    columns = [*EXPRESSIONS, "unknown", "nf"]
    votes: dict[str, list[list[float]]] = {usage: [] for usage in USAGES}
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in read_rows(file, source=path, required=("usage", "unknown", "nf")):
            by_class = {canonical_class_name(name): cell for name, cell in row.items()}
            try:
                cells = [float(by_class[name]) for name in columns]
            except (KeyError, ValueError) as error:
                raise DataError(
                    f"{path}, row {number}: the row must hold numbers of votes for {', '.join(columns)}, but does not: "
                    f"{error}; download the file again"
                ) from None
            votes[USAGES[_usage(row["usage"], path, number)]].append(cells)
    return {usage: np.array(table, np.float32).reshape(-1, len(columns)) for usage, table in votes.items()}


def relabel(split: Split, votes: Votes) -> Split:
    """The faces of a split with a majority among the annotators, with FER+ labels and soft labels.

    Args:
        split: faces with any labels.
        votes: [N, 10], one row for each face.

    Returns:
        The faces that are kept. Soft labels are shares of the votes for the eight expressions, without single votes.
    """
    votes = np.where(votes > 1, votes, 0)
    label = votes.argmax(axis=1)
    # Columns 8 and 9 are unknown and not a face: they count in the sum, and a majority for them drops the face.
    keep = (votes.max(axis=1) > 0.5 * votes.sum(axis=1)) & (label < len(EXPRESSIONS))
    shares = votes[keep, : len(EXPRESSIONS)]
    return Split(
        images=split.images[keep],
        labels=label[keep].astype(np.int64),
        soft_labels=(shares / shares.sum(axis=1, keepdims=True)).astype(np.float32),
    )
