"""FER+ as a folder of pictures (Barsoum et al., "Training deep networks for facial expression recognition with
crowd-sourced label distribution", ICMI 2016): `FER2013Train`, `FER2013Valid` and `FER2013Test`, each with its pictures
`fer0000000.png` and `label.csv` (name, box, votes of ten annotators for ten choices, no header).

The labels are those of the majority, see `nas.data.ferplus`; the shares of the votes are kept as soft labels. Valid
selects, Test is the test split. For votes on the rows of `fer2013.csv` use the data set fer2013 with labels=ferplus.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from nas.data.classes import EXPRESSIONS
from nas.data.csv_table import MAX_LINES
from nas.data.ferplus import Votes, expression_shares, majority_labels
from nas.data.image_files import ImageFileOptions
from nas.data.labelled_files import Item, PublishedForm
from nas.data.paths import printable_path
from nas.data.published_set import PublishedDataset, Reading
from nas.errors import DataError, one_line

VOTE_COLUMNS = ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt", "unknown", "nf")
"""What the ten columns of votes are for, in the order of the file; the last two are unknown and not a face."""
_PARTS = {"FER2013Train": "train", "FER2013Valid": "val", "FER2013Test": "test"}
_LABELS = "label.csv"
_MAX_VOTES = 1000


class FerPlusFolderDataset(PublishedDataset):
    """Options: those of `folder`."""

    name = "ferplus"
    title = "FER+"
    layout = "FER2013Train, FER2013Valid and FER2013Test with label.csv and pictures"
    default_size = None

    def recognises(self, folder: Path) -> bool:
        """See `PublishedDataset.recognises`."""
        return all((folder / part / _LABELS).is_file() for part in ("FER2013Train", "FER2013Valid"))

    def read(self, root: Path, options: ImageFileOptions) -> Reading:
        """See `PublishedDataset.read`."""
        tables = {root / part / _LABELS: split for part, split in _PARTS.items() if (root / part / _LABELS).is_file()}
        items: list[Item] = []
        kept = []
        for path, split in tables.items():
            rows = list(_rows(path))
            faces = _faces(path, rows, split)
            kept.append(f"{len(faces)} of {len(rows)} {split} faces")
            items += faces
        rule = "one expression holds more than half of the votes, single votes dropped, unknown and non-faces counted"
        return Reading(
            items=items,
            index_files=list(tables),
            notes=(f"FER+ majority labels: a face is kept where {rule}; kept are {', '.join(kept)}",),
            form=PublishedForm(classes=EXPRESSIONS),
        )


def _faces(path: Path, rows: list[tuple[str, str, list[float]]], split: str) -> list[Item]:
    order = [VOTE_COLUMNS.index(name) for name in (*EXPRESSIONS, "unknown", "nf")]
    votes: Votes = np.array([cells for _, _, cells in rows], np.float32).reshape(-1, len(VOTE_COLUMNS))[:, order]
    labels, is_kept = majority_labels(votes)
    shares = iter(expression_shares(votes[is_kept]).tolist())
    return [
        Item(
            path=path.parent / name,
            location=location,
            label=EXPRESSIONS[labels[i]],
            split=split,
            soft_label=tuple(next(shares)),
        )
        for i, (location, name, _) in enumerate(rows)
        if is_kept[i]
    ]


def _rows(path: Path) -> Iterator[tuple[str, str, list[float]]]:
    """Location, name of the picture and votes of each line; rows without a name have no face."""
    shown = printable_path(path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        try:
            for cells in reader:
                location = f"{shown}, row {reader.line_num}"
                if reader.line_num > MAX_LINES:
                    raise DataError(f"{shown} must have at most {MAX_LINES:,} lines, but has more; download it again")
                if cells and cells[0].strip():
                    yield location, cells[0].strip(), _votes(cells, location)
        except (csv.Error, UnicodeError) as error:
            raise DataError(
                f"{shown} must be CSV text, but is not: {one_line(error)}; download it from "
                "github.com/microsoft/FERPlus"
            ) from None


def _votes(cells: list[str], location: str) -> list[float]:
    """The last ten cells; between them and the name is the box of the face, which is all of the picture."""
    try:
        votes = [float(cell) for cell in cells[-len(VOTE_COLUMNS) :]]
    except ValueError:
        votes = []
    if len(votes) != len(VOTE_COLUMNS) or not all(0 <= vote <= _MAX_VOTES for vote in votes):
        raise DataError(
            f"{location}: a row must be a name, a box and votes for {', '.join(VOTE_COLUMNS)}, but is "
            f"{', '.join(cells)[:80]!a}; download the file from github.com/microsoft/FERPlus"
        )
    return votes


DATASET = FerPlusFolderDataset()
