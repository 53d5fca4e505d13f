"""FairFace (Karkkainen and Joo, "FairFace: face attribute dataset for balanced race, gender and age", WACV 2021, arXiv
1908.04913): faces with age, gender and race. It has no expressions.

Layout: `fairface_label_train.csv` and `fairface_label_val.csv` (file, age, gender, race, service_test), and the
pictures `train/N.jpg` and `val/N.jpg` that they name. One attribute is the class, another one the group, so that
figures by group can be compared before and after compression. There is no public test split: val is the test split
here, and the selection split is carved out of train. Persons are not named.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self

from pydantic import model_validator

from nas.data.csv_table import Row, read_rows
from nas.data.image_files import ImageFileOptions
from nas.data.labelled_files import Item, PublishedForm
from nas.data.paths import path_from_text, printable_path
from nas.data.published_set import PublishedDataset, Reading
from nas.errors import DataError

ATTRIBUTES = {
    "age": ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70"),
    "gender": ("female", "male"),
    "race": (
        "white", "black", "latino_hispanic", "east asian", "southeast asian", "indian", "middle eastern",
    ),
}  # fmt: skip
"""Values of each attribute in lower case."""
_TABLES = {"fairface_label_train.csv": "train", "fairface_label_val.csv": "test"}
Attribute = Literal["age", "gender", "race"]


class _Options(ImageFileOptions):
    label: Attribute = "age"
    group: Attribute = "race"

    @model_validator(mode="after")
    def _check_two(self) -> Self:
        if self.label == self.group:
            raise ValueError(f"label and group must differ, but both are {self.label}")
        return self


class FairFaceDataset(PublishedDataset):
    """Options: `label` (age, gender or race: the class; age), `group` (likewise; race), and those of `folder`."""

    name = "fairface"
    title = "FairFace"
    layout = "fairface_label_train.csv, fairface_label_val.csv, train and val"
    options = _Options

    def recognises(self, folder: Path) -> bool:
        """See `PublishedDataset.recognises`."""
        return all((folder / table).is_file() for table in _TABLES)

    def read(self, root: Path, options: _Options) -> Reading:
        """See `PublishedDataset.read`."""
        tables = {root / name: split for name, split in _TABLES.items()}
        return Reading(
            items=[item for path, split in tables.items() for item in _items(path, split, options)],
            index_files=list(tables),
            notes=(f"FairFace has no expressions: its classes here are the {options.label} of the person",),
            form=PublishedForm(classes=ATTRIBUTES[options.label], test_name="val, the published held-out split"),
        )


def _items(path: Path, split: str, options: _Options) -> Iterator[Item]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        for number, row in read_rows(file, source=path, required=("file", *ATTRIBUTES)):
            location = f"{printable_path(path)}, row {number}"
            yield Item(
                path=path_from_text(path.parent, row["file"]),
                location=location,
                label=_value(row, options.label, location),
                split=split,
                group=_value(row, options.group, location),
            )


def _value(row: Row, attribute: str, location: str) -> str:
    value = row[attribute].lower()
    if value not in ATTRIBUTES[attribute]:
        raise DataError(
            f"{location}: {attribute} must be one of {', '.join(ATTRIBUTES[attribute])}, but is "
            f"{row[attribute][:40]!r}; use the tables as published"
        )
    return value


DATASET = FairFaceDataset()
