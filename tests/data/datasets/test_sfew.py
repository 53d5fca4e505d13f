"""SFEW and frames of AFEW: Val is the test split, and films or videos stay together."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nas.data.base import FaceData
from nas.data.datasets.sfew import DATASET
from nas.errors import DataError

Miniature = Callable[[str], Path]


def load(root: Path, cache: Path, **options: str) -> FaceData:
    return DATASET.load(root, cache=cache, options=options)


def test_val_is_the_test_split_and_films_stay_together(miniature: Miniature, tmp_path: Path) -> None:
    data = load(miniature("sfew"), tmp_path)
    assert data.test is not None
    # Five films in Train, one of which selects, and two in Val, with one still of each expression.
    assert (len(data.train), len(data.val), len(data.test)) == (28, 7, 14)
    assert "persons are not named: films stand for subjects" in data.notes
    assert data.test_name == "Val, whose figure is reported"


def test_aligned_faces_are_preferred(miniature: Miniature, tmp_path: Path) -> None:
    root = tmp_path / "set"
    shutil.copytree(miniature("sfew"), root)
    for part in ("Train", "Val"):
        shutil.copytree(root / part, root / f"{part}_Aligned_Faces")
        shutil.move(root / f"{part}_Aligned_Faces", root / part)
        for file in (root / part).glob("*/*.png"):
            file.unlink()
    assert len(load(root, tmp_path / "cache").train) == 28


def test_aligned_faces_in_one_split_only_are_refused(miniature: Miniature, tmp_path: Path) -> None:
    root = tmp_path / "set"
    shutil.copytree(miniature("sfew"), root)
    shutil.copytree(root / "Train", root / "Train" / "Train_Aligned_Faces")
    with pytest.raises(DataError, match=r"aligned faces in both Train and Val .*, but has them only in .*_Faces"):
        load(root, tmp_path / "cache")


def test_frames_of_videos_take_the_class_of_the_video(miniature: Miniature, tmp_path: Path) -> None:
    data = load(miniature("afew"), tmp_path, frames="2")
    assert data.test is not None
    # Three videos of each expression in Train_AFEW, one in Val_AFEW, two frames of each.
    assert len(data.train) + len(data.val) == 42
    assert sorted(data.test.labels.tolist()) == sorted([*range(7)] * 2)
    assert "persons are not named: videos stand for subjects" in data.notes
    assert len(load(miniature("afew"), tmp_path, frames="99").test or ()) == 42


def test_frames_without_their_video_are_named(miniature: Miniature, tmp_path: Path) -> None:
    root = tmp_path / "set"
    shutil.copytree(miniature("afew"), root)
    (root / "Train_AFEW" / "Angry" / "000000001.avi").unlink()
    with pytest.raises(DataError, match=r"000000001 must be the frames of a video 000000001\.avi in a class folder"):
        load(root, tmp_path / "cache")


def test_misnamed_still_is_named(miniature: Miniature, tmp_path: Path) -> None:
    root = tmp_path / "set"
    shutil.copytree(miniature("sfew"), root)
    shutil.copy(next((root / "Train" / "Fear").iterdir()), root / "Train" / "Fear" / "face.png")
    with pytest.raises(DataError, match=r"face\.png must be named as Airheads_000519240_00000005\.png, by film"):
        load(root, tmp_path / "cache")
