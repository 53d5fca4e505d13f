"""CSV table of image files, with the columns path and label and optionally split, subject, group, valence, arousal.

- Paths are relative to the folder of the table.
- Labels are class names; names of expressions are canonicalised ("happiness" is "happy").
- Without val rows, a tenth of the training images becomes the selection split: whole subjects if the table names them.
- Without test rows, there is no test split.
- Valence and arousal are in -1..1; both are empty or -2 where there is none.
"""

from collections.abc import Mapping
from pathlib import Path

from nas.data.affect_labels import parse_affect
from nas.data.base import Dataset, FaceData
from nas.data.csv_table import Row, read_rows
from nas.data.image_files import ImageFileOptions, load_image_files
from nas.data.labelled_files import SPLIT_ALIASES, Item
from nas.data.options import parse_options
from nas.data.paths import path_from_text, printable_path
from nas.errors import DataError
from nas.files import regular_file_fault


class CsvDataset(Dataset):
    """Options: `size` (pixels; the files' own if left out), `channels` (1 or 3; as the first file), `val_share`."""

    name = "csv"

    def load(self, path: Path | None, *, cache: Path, options: Mapping[str, str]) -> FaceData:
        """Read the data set; see `Dataset.load`."""
        checked = parse_options(ImageFileOptions, options, dataset=self.name)
        if path is None:
            raise DataError("csv needs the path of a CSV file with columns path and label, but got none; give one")
        if (fault := regular_file_fault(path)) is not None:
            raise DataError(
                f"csv needs the path of a CSV file with columns path and label, but {printable_path(path)} {fault}; "
                "give an existing file"
            )
        return load_image_files(_items(path), checked, name=self.name, source=path, cache_dir=cache, index_files=[path])


_MISSING = frozenset({"", "nan", "null", "n/a", "<na>"})
"""Words that spreadsheets and pandas write where there is no value."""


def _items(source: Path) -> list[Item]:
    with source.open(encoding="utf-8-sig", newline="") as file:
        return [
            _item(row, source, f"{printable_path(source)}, row {n}")
            for n, row in read_rows(file, source=source, required=("path", "label"))
        ]


def _item(row: Row, source: Path, location: str) -> Item:
    path = path_from_text(source.parent, row["path"])
    fault = regular_file_fault(path) if row["path"] else "must be named, but the path is empty"
    if fault is not None:
        raise DataError(
            f"{location}: image {printable_path(path)} {fault}; paths are relative to the folder of "
            f"{printable_path(source.name)}"
        )
    if row["label"].lower() in _MISSING:
        got = repr(row["label"]) if row["label"] else "empty"
        raise DataError(f"{location}: the label must name a class, but is {got}; fill it in or remove the row")
    return Item(
        path=path,
        location=location,
        label=row["label"],
        split=_split(row.get("split", ""), location),
        subject=row.get("subject") or None,
        group=row.get("group") or None,
        affect=parse_affect(row.get("valence", ""), row.get("arousal", ""), location),
    )


def _split(text: str, location: str) -> str | None:
    if text and text.lower() not in SPLIT_ALIASES:
        raise DataError(f"{location}: split must be train, val or test, but got {text!r}; correct or remove the row")
    return SPLIT_ALIASES[text.lower()] if text else None


DATASET = CsvDataset()
