"""The quality check, on images with planted duplicates."""

import numpy as np
import numpy.typing as npt

from nas.data.base import FaceData, Split
from nas.data.quality_check import check_quality, difference_hash


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
