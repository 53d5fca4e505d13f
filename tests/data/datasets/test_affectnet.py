"""AffectNet: both releases, 8 and 7 classes, val as the test split, and -2 as no valence and arousal."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nas.data.base import FaceData, Split
from nas.data.datasets.affectnet import DATASET
from nas.errors import DataError
from tests.data.miniatures import write_affectnet_lists

Miniature = Callable[[str], Path]
BY_NUMBER = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt")
"""Labels 0 to 7 as the readme lists them."""


def load(root: Path, cache: Path, **options: str) -> FaceData:
    return DATASET.load(root, cache=cache, options=options)


def splits(data: FaceData) -> list[Split]:
    return [split for split in (data.train, data.val, data.test) if split is not None]


@pytest.mark.parametrize("form", ["affectnet", "affectnet lists"])
def test_labels_affect_and_splits(miniature: Miniature, tmp_path: Path, form: str) -> None:
    data = load(miniature(form), tmp_path)
    assert data.classes == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "contempt")
    assert [len(split) for split in splits(data)] == [16, 8, 8]
    assert data.test_name == "val, the published test split"
    assert data.input_shape == (3, 64, 64)
    for split in splits(data):
        assert split.affect is not None
        for label, (valence, arousal) in zip(split.labels, split.affect, strict=True):
            # The miniatures give label k the valence k / 10 and the arousal -k / 10.
            number = BY_NUMBER.index(data.classes[label])
            assert (valence, arousal) == (np.float32(number / 10), np.float32(-number / 10))
    assert "faces were left out by their label: none (4), uncertain (4), no face (4)" in data.notes


def test_seven_classes_leave_contempt_out(miniature: Miniature, tmp_path: Path) -> None:
    data = load(miniature("affectnet"), tmp_path, classes="7")
    assert "contempt" not in data.classes
    assert [len(split) for split in splits(data)] == [14, 7, 7]
    assert any("contempt (4), none (4)" in note for note in data.notes)


def test_minus_two_is_no_affect_and_another_value_is_refused(miniature: Miniature, tmp_path: Path) -> None:
    root = tmp_path / "set"
    shutil.copytree(miniature("affectnet"), root)
    arrays = root / "train_set" / "annotations"
    for kind in ("val", "aro"):
        np.save(arrays / f"0_{kind}.npy", np.array("-2"))
    affect = np.concatenate(
        [split.affect for split in splits(load(root, tmp_path / "cache")) if split.affect is not None]
    )
    assert np.isnan(affect).all(axis=1).sum() == 1
    np.save(arrays / "0_aro.npy", np.array(0.5))
    with pytest.raises(DataError, match=r"0\.jpg: valence and arousal must be in -1\.\.1, or both -2"):
        load(root, tmp_path / "cache")


def test_box_of_the_face_is_cut_out(miniature: Miniature, tmp_path: Path) -> None:
    # Outside of the face the pictures of the lists are white, and no drawn face has white corners.
    data = load(miniature("affectnet lists"), tmp_path, size="40")
    reference = load(miniature("affectnet"), tmp_path, size="40")
    assert data.train.images.mean() < 140
    assert abs(data.train.images.mean() - reference.train.images.mean()) < 15


def test_list_without_a_header_is_read(miniature: Miniature, tmp_path: Path) -> None:
    root = write_affectnet_lists(tmp_path / "set", header=False)
    assert load(root, tmp_path / "cache").digest == load(miniature("affectnet lists"), tmp_path / "cache").digest
    lists = root / "Manually_Annotated_file_lists"
    text = (lists / "validation.csv").read_text()
    (lists / "validation.csv").write_text(text.replace(",0,0.0,0.0", ",12,0.0,0.0", 1))
    with pytest.raises(DataError, match=r"validation\.csv, row 1: the expression must be 0 \(neutral\) to 10"):
        load(root, tmp_path / "cache")


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (None, "must be there for each picture, but is not"),
        (np.array("11"), r"the expression must be 0 \(neutral\) to 10 \(no face\), but is '11'"),
        (np.array("happy"), "the expression must be 0"),
        (np.zeros(3), r"must be an array of one number, but is not: it has shape \(3,\)"),
        (np.array({"a": 1}, object), "must be an array of one number, but is not: it has shape"),
    ],
)
def test_broken_annotation_is_named(
    miniature: Miniature, tmp_path: Path, array: np.ndarray | None, reason: str
) -> None:
    root = tmp_path / "set"
    shutil.copytree(miniature("affectnet"), root)
    file = root / "val_set" / "annotations" / "33_exp.npy"
    file.unlink()
    if array is not None:
        np.save(file, array)
    with pytest.raises(DataError, match=reason):
        load(root, tmp_path / "cache")


def test_broken_box_is_named(tmp_path: Path) -> None:
    root = write_affectnet_lists(tmp_path / "set")
    table = root / "Manually_Annotated_file_lists" / "training.csv"
    good = table.read_text()
    for box, reason in (("40,20,wide,40", "the face's box must be four numbers"), ("400,20,40,40", "must lie in the")):
        table.write_text(good.replace("40,20,40,40", box, 1))
        with pytest.raises(DataError, match=rf"training\.csv, row 2: .*{reason}"):
            load(root, tmp_path / "cache")
