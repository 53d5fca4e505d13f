"""ExpW: the order of the box's edges, faces of one photograph, and the split by name."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nas.data.base import FaceData, Split
from nas.data.datasets.expw import DATASET
from nas.errors import DataError
from tests.data.miniatures import write_text

Miniature = Callable[[str], Path]


def load(root: Path, cache: Path, **options: str) -> FaceData:
    return DATASET.load(root, cache=cache, options=options)


def splits(data: FaceData) -> list[Split]:
    return [split for split in (data.train, data.val, data.test) if split is not None]


def test_edges_are_top_left_right_bottom(miniature: Miniature, tmp_path: Path) -> None:
    # Around the faces the photographs are white: any other order of the edges cuts some of it.
    data = load(miniature("expw"), tmp_path, size="40", channels="3")
    blue = np.concatenate([split.images[:, 2] for split in splits(data)])
    assert blue.max() <= 256 // 3
    assert data.classes == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    labels = np.concatenate([split.labels for split in splits(data)])
    assert np.bincount(labels).tolist() == [6] * 6 + [48]


def test_faces_of_a_photograph_stay_together_and_other_photographs_do_not_matter(
    miniature: Miniature, tmp_path: Path
) -> None:
    data = load(miniature("expw"), tmp_path)
    for split in splits(data):
        assert split.subjects is not None
        assert set(np.unique(split.subjects, return_counts=True)[1].tolist()) == {2}
    root = tmp_path / "set"
    shutil.copytree(miniature("expw"), root)
    lines = (root / "label" / "label.lst").read_text().splitlines()
    write_text(root / "label" / "label.lst", lines[:9:-1])
    fewer = load(root, tmp_path / "cache")
    for before, after in zip(splits(data), splits(fewer), strict=True):
        assert {image.tobytes() for image in after.images} <= {image.tobytes() for image in before.images}


def test_low_confidence_is_left_out(miniature: Miniature, tmp_path: Path) -> None:
    data = load(miniature("expw"), tmp_path, min_confidence="60")
    assert "faces below the confidence 60 were left out: 40" in data.notes
    assert sum(map(len, splits(data))) == 44


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a.png 0 10 5 45 50 20.5", "a line must hold name, face, top, left, right, bottom, confidence, label"),
        ("a.png 0 10 45 5 50 20.5 1", "the box's edges must be top, left, right, bottom with left < right"),
        ("a.png 0 10 5 45 x 20.5 1", "edges and confidence must be numbers, but one is 'x' for 'a.png'"),
        ("a.png 0 10 5 45 50 nan 1", "edges and confidence must be numbers, but one is 'nan'"),
        ("a.png 0 10 5 45 50 20.5 7", r"the label must be 0 \(angry\) to 6 \(neutral\), but is '7'"),
        ("a.png 0 10 5 45 50 20.5 1", r"a\.png does not exist"),
    ],
)
def test_broken_line_is_named(miniature: Miniature, tmp_path: Path, line: str, reason: str) -> None:
    root = tmp_path / "set"
    shutil.copytree(miniature("expw"), root)
    write_text(root / "label" / "label.lst", [line])
    with pytest.raises(DataError, match=rf"label\.lst, line 1: .*{reason}"):
        load(root, tmp_path / "cache")
