"""FairFace: one attribute is the class, another the group."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nas.data.base import FaceData
from nas.data.datasets.fairface import DATASET
from nas.errors import DataError

Miniature = Callable[[str], Path]


def load(root: Path, cache: Path, **options: str) -> FaceData:
    return DATASET.load(root, cache=cache, options=options)


def test_attributes_are_classes_and_groups(miniature: Miniature, tmp_path: Path) -> None:
    data = load(miniature("fairface"), tmp_path)
    assert (data.classes[0], data.classes[-1], len(data.classes)) == ("0-2", "more than 70", 9)
    assert data.test is not None
    assert data.test.groups is not None
    # The i-th face of val has the i-th age and the i-th race of seven.
    races = ["east asian", "indian", "black", "white", "middle eastern", "latino_hispanic", "southeast asian"]
    assert data.test.labels.tolist() == list(range(9))
    assert data.test.groups.tolist() == [races[i % 7] for i in range(9)]
    assert any("FairFace has no expressions: its classes here are the age" in note for note in data.notes)
    assert load(miniature("fairface"), tmp_path, label="gender").classes == ("female", "male")


def test_wrong_options_and_values_are_named(miniature: Miniature, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="label and group must differ, but both are race"):
        load(miniature("fairface"), tmp_path, label="race")
    root = tmp_path / "set"
    shutil.copytree(miniature("fairface"), root)
    table = root / "fairface_label_val.csv"
    table.write_text(table.read_text().replace("3-9", "03-Sep"))  # as spreadsheets do
    with pytest.raises(DataError, match=r"fairface_label_val\.csv, row 3: age must be one of 0-2, .* but is '03-Sep'"):
        load(root, tmp_path / "cache")
