"""The data set of synthetic faces."""

from pathlib import Path

import numpy as np
import pytest

from nas.data.base import FaceData
from nas.data.classes import FER2013_CLASSES as CLASSES
from nas.data.datasets.synthetic import DATASET
from nas.errors import DataError


def load(cache: Path, **options: str) -> FaceData:
    return DATASET.load(None, cache=cache, options={"n": "700", **options})


def test_seed_decides_the_faces(tmp_path: Path) -> None:
    first = load(tmp_path / "a").digest
    assert load(tmp_path / "b").digest == first
    assert load(tmp_path / "a", seed="1").digest != first


def test_data_is_marked_as_synthetic(tmp_path: Path) -> None:
    data = load(tmp_path)
    assert data.synthetic
    assert "drawn by code" in data.notes[0]


@pytest.mark.parametrize(("size", "channels"), [("32", "1"), ("64", "3")])
def test_size_and_channels(tmp_path: Path, size: str, channels: str) -> None:
    assert load(tmp_path, size=size, channels=channels).input_shape == (int(channels), int(size), int(size))


def test_every_class_in_every_split(tmp_path: Path) -> None:
    data = load(tmp_path)
    assert data.test is not None
    for split in (data.train, data.val, data.test):
        assert set(split.labels.tolist()) == set(range(len(CLASSES)))


def test_valence_is_high_for_happy_and_low_for_angry(tmp_path: Path) -> None:
    val = load(tmp_path).val
    assert val.affect is not None
    valence = {name: val.affect[val.labels == k, 0].mean() for k, name in enumerate(CLASSES)}
    assert valence["happy"] > 0.3 > abs(valence["neutral"]) + 0.2
    assert valence["angry"] < -0.2


def test_label_noise_is_in_train_only(tmp_path: Path) -> None:
    """Affect follows the true expression, so a high valence with a label other than happy is label noise."""
    data = load(tmp_path, n="6000")
    happy = CLASSES.index("happy")

    def pleasant_but_not_happy(split_labels: object, affect: object) -> float:
        pleasant = np.asarray(affect)[:, 0] > 0.55
        return float(np.mean(np.asarray(split_labels)[pleasant] != happy))

    assert data.val.affect is not None
    assert data.train.affect is not None
    assert pleasant_but_not_happy(data.val.labels, data.val.affect) == 0
    # 5 %, with three standard deviations for about 400 faces.
    assert 0.015 < pleasant_but_not_happy(data.train.labels, data.train.affect) < 0.085


def test_options_are_checked(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"option size='16' of data set synthetic does not fit: .* 32"):
        load(tmp_path, size="16")
    with pytest.raises(DataError, match="need no path, but got"):
        DATASET.load(tmp_path, cache=tmp_path, options={})
