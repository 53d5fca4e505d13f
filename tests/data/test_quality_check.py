"""The quality check, on images with planted duplicates."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from nas.data.base import FaceData, Split
from nas.data.leaks import without_leaks
from nas.data.quality_check import check_quality, difference_hash
from nas.errors import DataError


def smooth(n: int, seed: int) -> npt.NDArray[np.uint8]:
    """[N, 1, 48, 48] images of large patches, so that slight noise leaves near duplicates."""
    coarse = np.random.default_rng(seed).integers(30, 220, (n, 1, 6, 6), dtype=np.uint8)
    return coarse.repeat(8, axis=2).repeat(8, axis=3)


def planted() -> FaceData:
    """Train has 20 images; 19 repeats 18.

    Val has 10: 0 and 1 repeat train 0 (with another label), 2 nearly repeats train 1, 3 is constant, the rest is new.
    """
    train, val = smooth(20, 1), smooth(10, 2)
    train[19] = train[18]
    val[0] = val[1] = train[0]
    val[2] = train[1] + np.random.default_rng(3).integers(0, 4, (1, 48, 48), dtype=np.uint8)
    val[3] = 7
    return FaceData(
        name="planted",
        classes=("angry", "happy"),
        train=Split(images=train, labels=np.zeros(20, np.int64), subjects=np.arange(20)),
        val=Split(images=val, labels=np.ones(10, np.int64), subjects=np.arange(18, 28)),
        test=None,
        notes=("a note",),
    )


def test_planted_duplicates_are_counted() -> None:
    result = check_quality(planted())
    assert result.duplicate_groups == 2
    assert result.duplicates_within == {"train": 1, "val": 1}
    assert result.duplicates_across == {("val", "train"): 2}
    assert result.label_conflict_groups == 1
    assert result.near_duplicates_across == {("val", "train"): 1}
    assert result.near_duplicates_within == {"train": 0, "val": 0}
    assert result.constant_images == {"train": 0, "val": 1}
    assert result.shared_subjects == {("val", "train"): 2}
    assert result.class_counts == {"train": {"angry": 20, "happy": 0}, "val": {"angry": 0, "happy": 10}}
    assert result.notes == ("a note",)
    assert result.subjects == {"train": 20, "val": 10}
    # Train 0 is repeated in val, and train 1 nearly.
    assert result.leaked == 2 == len(planted().train) - len(without_leaks(planted()).train)


def test_consequences_say_what_a_search_does() -> None:
    lines = check_quality(planted()).consequences()
    assert lines[0].startswith("a search trains without the 2 training images that are copies or near copies")
    assert "subjects in both val and train stay there" in lines[1]
    assert lines[2].startswith("identical images with different labels stay")
    same = replace(planted(), val=planted().train)
    assert check_quality(same).consequences()[0].startswith("every training image is a copy of one in val or test")


def test_copies_between_val_and_test_stay() -> None:
    data = planted()
    test = Split(images=data.val.images[4:6], labels=data.val.labels[4:6], subjects=np.array([90, 91]))
    lines = check_quality(replace(data, test=test)).consequences()
    assert "copies of val images stay in test, so that the test split is the published one" in lines


def test_known_and_unknown_subjects_are_told_apart() -> None:
    data = planted()
    apart = replace(data, val=replace(data.val, subjects=np.arange(30, 40)))
    assert "no subject is in two splits" in check_quality(apart).consequences()
    unknown = replace(data, train=replace(data.train, subjects=None), val=replace(data.val, subjects=None))
    assert any(line.startswith("subjects are not known") for line in check_quality(unknown).consequences())
    assert check_quality(unknown).subjects == {}


def test_groups_and_affect_are_counted() -> None:
    data = planted()
    affect = np.full((20, 2), np.nan, np.float32)
    affect[:4] = [[0.5, -0.25], [-0.75, 0], [0, 0], [0.25, 1]]
    train = replace(data.train, groups=np.array(["a"] * 12 + ["b"] * 6 + [""] * 2), affect=affect)
    result = check_quality(replace(data, train=train))
    assert result.group_rows() == [
        ("group", "train"),
        ("none", "2 (10.0%)"),
        ("a", "12 (60.0%)"),
        ("b", "6 (30.0%)"),
        ("all", "20"),
    ]
    assert "valence and arousal of 4 of 20 train images are from -0.75 to 1.00" in result.consequences()
    assert dict(result.count_findings())["train images with valence and arousal"] == 4
    assert check_quality(data).group_rows() == []


def test_affect_beyond_its_range_is_refused() -> None:
    data = planted()
    train = replace(data.train, affect=np.full((20, 2), -2, np.float32))
    with pytest.raises(
        DataError, match=r"valence and arousal must be in -1\.\.1, but those of train reach from -2 to -2"
    ):
        check_quality(replace(data, train=train))


def test_class_balance_has_a_row_per_class_and_the_totals() -> None:
    assert check_quality(planted()).class_balance_rows() == [
        ("class", "train", "val"),
        ("angry", "20 (100.0%)", "0 (0.0%)"),
        ("happy", "0 (0.0%)", "10 (100.0%)"),
        ("all", "20", "10"),
    ]


def test_findings_include_zeros() -> None:
    findings = dict(check_quality(planted()).count_findings())
    assert findings["val images also in train"] == 2
    assert findings["constant images in train"] == 0


def test_unknown_subjects_are_not_compared() -> None:
    images, labels = smooth(3, 1), np.zeros(3, np.int64)
    split = Split(images=images, labels=labels)
    data = FaceData(name="x", classes=("a",), train=split, val=split, test=None)
    assert check_quality(data).shared_subjects == {}
    assert check_quality(data).duplicates_across == {("val", "train"): 3}


def test_difference_hash_counts_brighter_neighbours() -> None:
    rising = np.tile(np.arange(72, dtype=np.uint8), (72, 1))[None, None]
    hashes = difference_hash(np.concatenate([rising, rising[..., ::-1], np.full_like(rising, 9)]))
    assert [int(h).bit_count() for h in hashes] == [64, 0, 0]


def test_small_images_have_hashes() -> None:
    assert difference_hash(np.zeros((2, 3, 32, 32), np.uint8)).shape == (2,)
