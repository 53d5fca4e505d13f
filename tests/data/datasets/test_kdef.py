"""KDEF: views, both sessions of a person, and the square in the middle."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nas.data.base import FaceData
from nas.data.datasets.kdef import DATASET
from nas.errors import DataError

Miniature = Callable[[str], Path]


def load(root: Path, cache: Path, **options: str) -> FaceData:
    return DATASET.load(root, cache=cache, options=options)


def size(data: FaceData) -> int:
    return sum(len(split) for split in (data.train, data.val, data.test) if split is not None)


def test_views_and_subjects(miniature: Miniature, tmp_path: Path) -> None:
    data = load(miniature("kdef"), tmp_path)
    assert size(data) == 4 * 2 * 7
    assert size(load(miniature("kdef"), tmp_path, views="half")) == 2 * size(data)
    assert data.test is not None
    people = [set(split.subjects.tolist()) for split in (data.train, data.val, data.test) if split.subjects is not None]
    # Both sessions of a person are one person.
    assert len(set.union(*people)) == 4
    assert set(data.train.groups.tolist() if data.train.groups is not None else []) <= {"female", "male"}
    assert any("pictures of other names were left out: 1, as AF01SUX.JPG" in note for note in data.notes)


def test_square_in_the_middle_is_read(miniature: Miniature, tmp_path: Path) -> None:
    # The miniature's pictures are 76 high and 56 wide, and the face's 40 rows are in the middle: of 56 rows 8 are black
    # above and below; the whole picture would have 18 of 76.
    image = load(miniature("kdef"), tmp_path, size="56", channels="1").train.images[0, 0].astype(int)
    assert image[:6].max() < 30
    assert image[10:46, 10:46].mean() > 60


def test_session_folder_is_too_low(miniature: Miniature, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="AF01 is one level too low for KDEF; give"):
        load(miniature("kdef") / "AF01", tmp_path)


def test_options_that_select_nothing_are_refused(miniature: Miniature, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="option views='above' of data set kdef does not fit"):
        load(miniature("kdef"), tmp_path, views="above")
    root = tmp_path / "set"
    shutil.copytree(miniature("kdef"), root)
    for path in root.glob("*/*S.JPG"):
        path.unlink()
    with pytest.raises(DataError, match="must hold pictures of KDEF that the options select, but has none; change the"):
        load(root, tmp_path / "cache")
