"""CK+: labels, the frames of a sequence, and persons."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nas.data.base import FaceData
from nas.data.datasets.ckplus import DATASET
from nas.errors import DataError
from tests.data.miniatures import write_text

Miniature = Callable[[str], Path]


def load(root: Path, cache: Path, **options: str) -> FaceData:
    return DATASET.load(root, cache=cache, options=options)


def counts(data: FaceData) -> dict[str, int]:
    labels = np.concatenate([split.labels for split in (data.train, data.val, data.test) if split is not None])
    return dict(zip(data.classes, np.bincount(labels, minlength=len(data.classes)).tolist(), strict=True))


def test_last_frames_show_the_expression_and_the_first_a_neutral_face(miniature: Miniature, tmp_path: Path) -> None:
    root = miniature("ckplus")
    data = load(root, tmp_path)
    # Six persons, one sequence of each label 1 to 7; the eighth is not labelled.
    expected = dict.fromkeys(("angry", "disgust", "fear", "happy", "sad", "surprise", "contempt"), 18)
    assert counts(data) == expected
    assert counts(load(root, tmp_path, neutral="yes")) == expected | {"neutral": 42}
    assert "contempt" not in counts(load(root, tmp_path, contempt="no"))
    assert counts(load(root, tmp_path, frames="1"))["fear"] == 6


@pytest.mark.parametrize("form", ["ckplus", "ck48"])
def test_splits_are_by_person(miniature: Miniature, tmp_path: Path, form: str) -> None:
    data = load(miniature(form), tmp_path)
    assert data.test is not None
    people = [set(split.subjects.tolist()) for split in (data.train, data.val, data.test) if split.subjects is not None]
    assert len(set.union(*people)) == 6 == sum(map(len, people))
    assert data.test_name == "20% of the faces, by person"


def test_classes_of_the_numbers(miniature: Miniature, tmp_path: Path) -> None:
    root = tmp_path / "set"
    shutil.copytree(miniature("ckplus"), root)
    for sequence in (1, 3, 4, 5, 6):  # anger, disgust, fear, happy, sadness in the readme
        for folder in (root / "Emotion").glob(f"S*/{sequence:03d}"):
            shutil.rmtree(folder)
    assert {name for name, count in counts(load(root, tmp_path / "cache")).items() if count} == {"contempt", "surprise"}


def test_broken_parts_are_named(miniature: Miniature, tmp_path: Path) -> None:
    root = tmp_path / "set"
    shutil.copytree(miniature("ckplus"), root)
    file = root / "Emotion" / "S005" / "001" / "S005_001_00000005_emotion.txt"
    for lines, got in ((["8.0"], "'8.0'"), (["x"], "'x'"), (["1", "2"], "'2 lines'"), (["nan"], "'nan'")):
        write_text(file, lines)
        with pytest.raises(DataError, match=rf"must hold one label, 0 \(neutral\) to 7 \(surprise\), but holds {got}"):
            load(root, tmp_path / "cache")
    write_text(file, ["1.0"])
    with pytest.raises(DataError, match="must hold more than 6 frames of the labelled sequence, but has 5"):
        load(root, tmp_path / "cache", frames="6")
    file.rename(file.with_name("emotion.txt"))
    with pytest.raises(DataError, match=r"must be named as S005_001_00000011_emotion\.txt, but is not"):
        load(root, tmp_path / "cache")


def test_foreign_picture_in_class_folders_is_named(miniature: Miniature, tmp_path: Path) -> None:
    root = tmp_path / "set"
    shutil.copytree(miniature("ck48"), root)
    source = next((root / "fear").iterdir())
    shutil.copy(source, root / "fear" / "zz.png")
    with pytest.raises(DataError, match=r"zz\.png must be a frame as S010_004_00000017\.png in a folder of angry, "):
        load(root, tmp_path / "cache")
