"""The data set of class folders."""

import builtins
from pathlib import Path

import numpy as np
import pytest

from nas.data.base import FaceData
from nas.data.datasets.folder import DATASET
from nas.errors import DataError, MissingPackageError
from tests.data.sources import pixels, write_folder, write_image


def load(root: Path, **options: str) -> FaceData:
    return DATASET.load(root, cache=root.parent / "cache", options=options)


def test_selection_split_takes_a_share_of_each_class(tmp_path: Path) -> None:
    data = load(write_folder(tmp_path / "faces", each=20))
    assert data.classes == ("happy", "neutral", "bored")
    assert data.input_shape == (1, 40, 40)
    # A tenth of twenty, in every class.
    assert np.bincount(data.val.labels).tolist() == [2, 2, 2]
    assert np.bincount(data.train.labels).tolist() == [18, 18, 18]
    assert data.test is None
    assert data.test_name == "no test split in faces"
    assert any("happiness is read as happy" in note for note in data.notes)
    assert any("6 faces were split off train" in note for note in data.notes)


def test_selection_split_does_not_depend_on_file_names(tmp_path: Path) -> None:
    first = load(write_folder(tmp_path / "faces"))
    for file in (tmp_path / "faces").glob("*/*.png"):
        file.rename(file.with_name(f"{99 - int(file.stem)}.png"))
    again = load(tmp_path / "faces")
    assert {i.tobytes() for i in first.val.images} == {i.tobytes() for i in again.val.images}


def test_exact_duplicates_stay_in_one_split(tmp_path: Path) -> None:
    for name in ("happy", "sad"):
        for i, face in enumerate(np.repeat(pixels(8, side=40, seed=len(name)), 3, axis=0)):
            write_image(tmp_path / "faces" / name / f"{i}.png", face)
    data = load(tmp_path / "faces", val_share="0.4")
    assert not {i.tobytes() for i in data.val.images} & {i.tobytes() for i in data.train.images}


def test_named_splits_are_kept(tmp_path: Path) -> None:
    for split, each in (("Train", 4), ("valid", 3), ("test", 2)):
        write_folder(tmp_path / "faces" / split, each=each)
    data = load(tmp_path / "faces")
    assert data.test is not None
    assert (len(data.train), len(data.val), len(data.test)) == (12, 9, 6)


def test_size_and_channels(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "faces")
    assert load(root, size="48", channels="3").input_shape == (3, 48, 48)
    red = np.zeros((40, 40, 3), np.uint8)
    red[..., 0] = 200
    for i in range(3):
        write_image(tmp_path / "rgb" / "happy" / f"{i}.png", red + np.uint8(i))
    data = load(tmp_path / "rgb")
    assert data.input_shape == (3, 40, 40)
    assert data.train.images[:, 0].min() >= 200


def test_grey_levels_are_unchanged_by_resizing(tmp_path: Path) -> None:
    for i in range(4):
        write_image(tmp_path / "faces" / "happy" / f"{i}.png", np.full((40, 40), 60 + i, np.uint8))
    data = load(tmp_path / "faces", size="64")
    assert sorted({int(v) for s in (data.train, data.val) for v in np.unique(s.images)}) == [60, 61, 62, 63]


def test_image_of_another_size_and_broken_image_are_named(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "faces")
    odd = write_image(root / "neutral" / "zz.png", pixels(1, side=50)[0])
    fault = r"zz\.png: all images must have one size, but this one is 50x50 and the first is 40x40; .* size=48"
    with pytest.raises(DataError, match=fault):
        load(root)
    odd.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"zz\.png is not a readable image: .*; replace or remove the file"):
        load(root)


def test_folders_of_another_form_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must hold images in class folders, but has none"):
        load(tmp_path)
    write_folder(tmp_path / "faces" / "train")
    (tmp_path / "faces" / "happy").mkdir()
    with pytest.raises(DataError, match="split folders or class folders, but has split folders and happy"):
        load(tmp_path / "faces")
    write_image(tmp_path / "one" / "happy" / "0.png", pixels(1, side=40)[0])
    with pytest.raises(DataError, match="must hold faces of split val, but has none"):
        load(tmp_path / "one")
    with pytest.raises(DataError, match="option size='many' of data set folder does not fit"):
        load(tmp_path / "one", size="many")


def test_missing_pillow_names_the_command_that_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_folder(tmp_path / "faces")
    genuine = builtins.__import__

    def without_pillow(name: str, *args: object, **kwargs: object) -> object:
        if name.startswith("PIL"):
            raise ImportError(name)
        return genuine(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without_pillow)
    with pytest.raises(MissingPackageError, match=r"pip install 'fer-nas\[images\]'"):
        load(root)
