"""FER+ as a folder: the order of the votes, the majority, and soft labels."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nas.data.base import FaceData
from nas.data.datasets.ferplus import DATASET
from nas.errors import DataError

Miniature = Callable[[str], Path]
BY_COLUMN = ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt")
"""The expressions in the order of the columns, as the repository's readme lists them."""


def load(root: Path, cache: Path, **options: str) -> FaceData:
    return DATASET.load(root, cache=cache, options=options)


def test_majority_and_shares_of_the_votes(miniature: Miniature, tmp_path: Path) -> None:
    data = load(miniature("ferplus"), tmp_path)
    assert data.test is not None
    # A face for each expression; unknown, not a face and a tie of five to five are dropped.
    assert (len(data.train), len(data.val), len(data.test)) == (24, 8, 8)
    assert data.input_shape == (1, 40, 40)
    assert any("kept are 24 of 33 train faces, 8 of 11 val faces, 8 of 11 test faces" in note for note in data.notes)
    assert data.test.soft_labels is not None
    for label, shares in zip(data.test.labels, data.test.soft_labels, strict=True):
        column = BY_COLUMN.index(data.classes[label])
        expected = {BY_COLUMN[column]: 0.7, BY_COLUMN[(column + 1) % 8]: 0.3}
        np.testing.assert_allclose(shares, [expected.get(name, 0) for name in data.classes], rtol=1e-6)


def test_missing_test_folder_is_explained(miniature: Miniature, tmp_path: Path) -> None:
    root = tmp_path / "set"
    shutil.copytree(miniature("ferplus"), root)
    shutil.rmtree(root / "FER2013Test")
    assert load(root, tmp_path / "cache").test_name == "no test split in set"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('fer1.png,"(0, 0, 48, 48)",1,2,3', "row 1: a row must be a name, a box and votes for neutral, happy"),
        ('fer1.png,"(0, 0, 48, 48)",7,0,0,0,0,0,0,0,0,x', "row 1: a row must be a name"),
        ('fer1.png,"(0, 0, 48, 48)",-7,0,0,0,0,0,0,0,0,1', "row 1: a row must be a name"),
        ('fer1.png,"(0, 0, 48, 48)",7,0,0,0,0,0,0,0,0,0', r"row 1: image .*fer1\.png does not exist"),
        ("fer1.png,\udcff", "must be CSV text, but is not"),
    ],
)
def test_broken_row_is_named(miniature: Miniature, tmp_path: Path, line: str, reason: str) -> None:
    root = tmp_path / "set"
    shutil.copytree(miniature("ferplus"), root)
    (root / "FER2013Valid" / "label.csv").write_bytes(line.encode("utf-8", "surrogateescape") + b"\n")
    with pytest.raises(DataError, match=reason):
        load(root, tmp_path / "cache")
