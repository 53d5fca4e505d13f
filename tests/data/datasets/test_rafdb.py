"""RAF-DB: labels from 1, splits by name, attributes as groups, and the compound part."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nas.data.base import FaceData
from nas.data.datasets.rafdb import COMPOUND, DATASET
from nas.errors import DataError
from tests.data.miniatures import write_rafdb, write_text

Miniature = Callable[[str], Path]
BY_NUMBER = ("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral")
"""Labels 1 to 7 as the release's readme lists them."""


def load(root: Path, cache: Path, **options: str) -> FaceData:
    return DATASET.load(root, cache=cache, options=options)


def test_labels_count_from_one_and_name_expressions(miniature: Miniature, tmp_path: Path) -> None:
    data = load(miniature("rafdb"), tmp_path, group="race")
    assert data.classes == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    assert data.test is not None
    assert (len(data.train), len(data.val), len(data.test)) == (14, 7, 7)
    assert data.input_shape == (3, 40, 40)
    # The miniature's race is the label modulo 3.
    assert data.test.groups is not None
    for label, group in zip(data.test.labels, data.test.groups, strict=True):
        number = BY_NUMBER.index(data.classes[label]) + 1
        assert group == ("Caucasian", "African-American", "Asian")[number % 3]
    assert load(miniature("rafdb"), tmp_path).train.groups is None


def test_folders_of_the_re_upload_have_the_same_labels(miniature: Miniature, tmp_path: Path) -> None:
    # Both miniatures use the same faces, the first three of label 1 first in the folders.
    data, root = load(miniature("rafdb folders"), tmp_path), miniature("rafdb folders")
    assert data.test is not None
    assert np.bincount(data.test.labels).tolist() == [1] * 7
    single = tmp_path / "single"
    for number in (1, 4):
        shutil.copytree(root / "train" / str(number), single / BY_NUMBER[number - 1])
    expected = {image.tobytes() for image in _folder(single).train.images}
    named = {data.classes[label] for label, image in _rows(data) if image.tobytes() in expected}
    assert named == {"surprise", "happy"}


def _folder(root: Path) -> FaceData:
    from nas.data.loading import load_data

    return load_data("folder", root, options={"channels": "3"}, cache_dir=root.parent / "c")


def _rows(data: FaceData) -> list[tuple[int, np.ndarray]]:
    return [pair for split in (data.train, data.val) for pair in zip(split.labels, split.images, strict=True)]


def test_compound_part_has_eleven_classes_in_their_order(tmp_path: Path) -> None:
    root = write_rafdb(tmp_path / "compound", n_classes=11)
    data = load(root, tmp_path / "cache")
    assert data.classes == COMPOUND
    assert data.classes[0] == "happily surprised"
    assert np.bincount(data.train.labels, minlength=11).min() > 0
    root = root.rename(tmp_path / "other")
    with pytest.raises(DataError, match=r"line 8: labels of RAF-DB must be 1 \(surprise\) to 7 \(neutral\), .* is 8"):
        load(root, tmp_path / "cache")
    assert load(root, tmp_path / "cache", part="compound").classes == COMPOUND


def test_broken_parts_are_named(miniature: Miniature, tmp_path: Path) -> None:
    root = tmp_path / "set"
    shutil.copytree(miniature("rafdb"), root)
    labels = root / "EmoLabel" / "list_patition_label.txt"
    good = labels.read_text()
    for line, reason in (
        ("train_00001.jpg", "a line must hold a file name and a number, but is 'train_00001.jpg'"),
        ("train_00001.jpg x", "the label must be a number from 1, but is 'x'"),
        ("face.jpg 1", r"the name must be as train_00001\.jpg or test_0001\.jpg, but is 'face\.jpg'"),
        ("train_00099.jpg 1", r"train_00099_aligned\.jpg does not exist"),
    ):
        write_text(labels, [line])
        with pytest.raises(DataError, match=f"list_patition_label.txt, line 1: .*{reason}"):
            load(root, tmp_path / "cache")
    labels.write_text(good)
    write_text(root / "Annotation" / "manual" / "train_00001_manu_attri.txt", ["1 2"] * 5 + ["0", "1", "9"])
    with pytest.raises(DataError, match="must end with the numbers of gender, race and age, but ends with '0, 1, 9'"):
        load(root, tmp_path / "cache", group="age")
    (root / "Annotation" / "manual" / "train_00001_manu_attri.txt").unlink()
    with pytest.raises(DataError, match=r"group=age needs .*train_00001_manu_attri\.txt, which does not exist"):
        load(root, tmp_path / "cache", group="age")
    (root / "Image" / "aligned").rename(root / "Image" / "original")
    with pytest.raises(DataError, match="must hold the aligned pictures in Image/aligned, but does not"):
        load(root, tmp_path / "cache")


def test_folders_from_zero_have_an_unknown_order(miniature: Miniature, tmp_path: Path) -> None:
    root = tmp_path / "set"
    shutil.copytree(miniature("rafdb folders"), root)
    (root / "train" / "2").rename(root / "train" / "0")
    with pytest.raises(
        DataError, match=r"labels .* must be 1 \(surprise\) .* this one is 0: the order .* is not known"
    ):
        load(root, tmp_path / "cache")
    with pytest.raises(DataError, match="group=age needs Annotation/manual of RAF-DB's own release"):
        load(root, tmp_path / "cache", group="age")
