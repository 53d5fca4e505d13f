"""A table of faces: a CSV file with columns path, label and, as far as known, split, subject, group, valence, arousal.

Paths are relative to the file's folder. Labels are class names; names of expressions are brought to one spelling.
Without val rows a tenth of the training faces is chosen by: whole subjects where the table names them. Without test
rows there is no test split. Valence and arousal lie in -1..1.
"""

from collections.abc import Mapping
from pathlib import Path

from nas.data.base import Dataset, FaceData
from nas.data.csv_table import Row, read_rows
from nas.data.image_files import ImageFileOptions, load_image_files
from nas.data.items import SPLIT_ALIASES, Item
from nas.data.options import parse_options
from nas.errors import DataError


class CsvDataset(Dataset):
    """Options: `size` (pixels; the files' own if left out), `channels` (1 or 3; as the first file), `val_share`."""

    name = "csv"

    def load(self, path: Path | None, *, cache: Path, options: Mapping[str, str]) -> FaceData:
        """Read the faces; see `Dataset.load`."""
        checked = parse_options(ImageFileOptions, options, dataset=self.name)
        if path is None or not path.is_file():
            raise DataError(f"csv needs the path of a CSV file with columns path and label, but got {path}")
        return load_image_files(_items(path), checked, name=self.name, source=path, cache_dir=cache, index_files=[path])


def _items(source: Path) -> list[Item]:
    with source.open(encoding="utf-8-sig", newline="") as file:
        return [
            _item(row, source, f"{source}, row {n}")
            for n, row in read_rows(file, source=source, required=("path", "label"))
        ]


def _item(row: Row, source: Path, location: str) -> Item:
    path = source.parent / row["path"]
    if not row["path"] or not path.is_file():
        raise DataError(f"{location}: image {path} does not exist; paths are relative to the folder of {source.name}")
    if not row["label"]:
        raise DataError(f"{location}: label is empty; name the class or leave the row out")
    return Item(
        path=path,
        location=location,
        label=row["label"],
        split=_split(row.get("split", ""), location),
        subject=row.get("subject") or None,
        group=row.get("group") or None,
        affect=_affect(row, location),
    )


def _split(word: str, location: str) -> str | None:
    if word and word.lower() not in SPLIT_ALIASES:
        raise DataError(f"{location}: split must be train, val or test, but got {word!r}")
    return SPLIT_ALIASES[word.lower()] if word else None


def _affect(row: Row, location: str) -> tuple[float, float] | None:
    """Valence and arousal, None where both are left empty."""
    words = {name: row.get(name, "") for name in ("valence", "arousal")}
    if not any(words.values()):
        return None
    try:
        valence, arousal = (float(word) for word in words.values())
    except ValueError:
        raise DataError(f"{location}: valence and arousal must be numbers, but got {words}") from None
    if not (-1 <= valence <= 1 and -1 <= arousal <= 1):
        raise DataError(
            f"{location}: valence and arousal must lie in -1..1, but got {words}; drop rows marked as unknown"
        )
    return valence, arousal


DATASET = CsvDataset()
