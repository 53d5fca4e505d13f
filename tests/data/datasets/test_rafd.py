"""RaFD: angles, eight expressions, and groups by name."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from nas.data.datasets.rafd import DATASET


def test_angles_expressions_and_groups(miniature: Callable[[str], Path], tmp_path: Path) -> None:
    data = DATASET.load(miniature("rafd"), cache=tmp_path, options={})
    splits = [split for split in (data.train, data.val, data.test) if split is not None]
    # Five persons, eight expressions, two pictures from the front.
    assert np.bincount(np.concatenate([split.labels for split in splits])).tolist() == [10] * 8
    assert data.classes[-1] == "contempt"
    groups = np.concatenate([split.groups for split in splits if split.groups is not None])
    assert dict(zip(*np.unique(groups, return_counts=True), strict=True)) == {"Caucasian": 64, "Moroccan": 16}
    half = DATASET.load(miniature("rafd"), cache=tmp_path, options={"angles": "half", "group": "sex"})
    assert half.train.groups is not None
    assert set(half.train.groups.tolist()) <= {"female", "male"}
    assert len(half.train) == 3 * len(data.train) / 2
