"""JAFFE: expression and person are in the file's name."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from nas.data.datasets.jaffe import DATASET


def test_names_give_expression_and_person(miniature: Callable[[str], Path], tmp_path: Path) -> None:
    data = DATASET.load(miniature("jaffe"), cache=tmp_path, options={"size": "40"})
    assert data.classes == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    assert data.input_shape == (1, 40, 40)
    assert data.test is not None
    for split, persons in ((data.train, 3), (data.val, 1), (data.test, 2)):
        # One picture of each expression for each of six persons.
        assert np.bincount(split.labels).tolist() == [persons] * 7
        assert split.subjects is not None
        assert len(set(split.subjects.tolist())) == persons
