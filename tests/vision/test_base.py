"""Boxes of faces: overlap, order, and which ones count."""

import numpy as np
import pytest

from nas.vision.base import MAX_DETECTION_SIDE, Box, reduction, sorted_boxes


def a_box(x: float, y: float, width: float, height: float) -> Box:
    return Box(x=x, y=y, width=width, height=height)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (a_box(0, 0, 2, 2), 1.0),
        (a_box(1, 0, 2, 2), 2 / 6),
        (a_box(1, 1, 2, 2), 1 / 7),
        (a_box(2, 0, 2, 2), 0.0),
        (a_box(-9, -9, 1, 1), 0.0),
        (a_box(0, 0, 1, 1), 1 / 4),
    ],
)
def test_overlap_is_intersection_over_union_and_symmetric(other: Box, expected: float) -> None:
    box = a_box(0, 0, 2, 2)
    assert box.overlap(other) == pytest.approx(expected)
    assert other.overlap(box) == pytest.approx(expected)


def test_the_largest_box_comes_first_and_those_outside_or_without_size_are_left_out() -> None:
    picture = np.zeros((10, 20, 3), np.uint8)
    small, large, partly = a_box(1, 1, 2, 2), a_box(3, 3, 4, 4), a_box(-2, 8, 3, 3)
    outside = [
        a_box(20, 0, 5, 5),
        a_box(0, 10, 5, 5),
        a_box(-5, 0, 5, 5),
        a_box(0, 0, 0, 5),
        a_box(0, float("nan"), 1, 1),
    ]
    assert sorted_boxes([small, *outside, large, partly], picture) == [large, partly, small]


def test_of_equal_boxes_the_upper_left_comes_first() -> None:
    picture = np.zeros((10, 20, 3), np.uint8)
    boxes = [a_box(5, 2, 2, 2), a_box(1, 2, 2, 2), a_box(9, 0, 2, 2)]
    assert sorted_boxes(boxes, picture) == [boxes[2], boxes[1], boxes[0]]


@pytest.mark.parametrize(("shape", "factor"), [((10, 10, 3), 1.0), ((4 * MAX_DETECTION_SIDE, 7, 3), 0.25)])
def test_only_large_pictures_are_reduced(shape: tuple[int, ...], factor: float) -> None:
    assert reduction(np.zeros(shape, np.uint8)) == factor
