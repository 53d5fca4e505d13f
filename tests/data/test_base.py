"""Splits: evenly spread and selected rows; the digest."""

from dataclasses import fields, replace

import numpy as np
import pytest

from nas.data.base import FaceData, Split


@pytest.mark.parametrize(
    ("n_images", "max_rows", "rows"),
    [(9, 3, [0, 4, 8]), (10, 4, [0, 3, 6, 9]), (3, 5, [0, 1, 2]), (4, 1, [0])],
)
def test_rows_are_spread_from_the_first_to_the_last(n_images: int, max_rows: int, rows: list[int]) -> None:
    split = Split(images=np.zeros((n_images, 1, 2, 2), np.uint8), labels=np.zeros(n_images, np.int64))

    assert split.evenly_spread_rows(max_rows).tolist() == rows


def whole_split() -> Split:
    """Three images, with every field."""
    return Split(
        images=np.arange(12, dtype=np.uint8).reshape(3, 1, 2, 2),
        labels=np.array([0, 1, 0]),
        soft_labels=np.eye(3, 2, dtype=np.float32),
        votes=np.array([[9, 1], [0, 0], [4, 6]], np.float32),
        subjects=np.array([5, 6, 7]),
        affect=np.array([[0.5, 0], [np.nan, np.nan], [-1, 1]], np.float32),
        groups=np.array(["a", "", "b"]),
    )


def test_selected_rows_keep_all_that_is_known() -> None:
    split = whole_split()
    by_number, by_mask = split.select(np.array([2, 0])), split.select(np.array([True, False, True]))
    for field in fields(Split):
        values = getattr(split, field.name)
        np.testing.assert_array_equal(getattr(by_number, field.name), values[[2, 0]])
        np.testing.assert_array_equal(getattr(by_mask, field.name), values[[0, 2]])
    assert replace(split, groups=None).select(np.array([0])).groups is None


def test_digest_depends_on_affect_and_groups_of_real_faces() -> None:
    split = whole_split()
    data = FaceData(name="x", classes=("a", "b"), train=split, val=split, test=None)
    others = [replace(split, affect=split.affect * 0.5 if split.affect is not None else None),
              replace(split, groups=np.array(["a", "", "c"]))]  # fmt: skip
    digests = {replace(data, train=other).digest for other in (split, *others)}
    assert len(digests) == 3
    assert len({replace(data, train=other, synthetic=True).digest for other in (split, *others)}) == 1
