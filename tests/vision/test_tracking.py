"""Tracking: who is who from frame to frame, and smoothing by a time constant in closed form."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.vision.base import Box
from nas.vision.tracking import MAX_GAP_S, MIN_OVERLAP, Tracker, match_boxes

YES, NO = np.array([[1.0, 0.0]], np.float32), np.array([[0.0, 1.0]], np.float32)


def at(x: float, y: float = 0.0, side: float = 10.0) -> Box:
    return Box(x=x, y=y, width=side, height=side)


@given(st.lists(st.floats(0.001, 0.3), min_size=1, max_size=30), st.floats(0.05, 2.0))
def test_a_step_is_answered_by_the_exponential_of_the_elapsed_time_whatever_the_frame_rate(
    gaps: list[float], constant: float
) -> None:
    tracker, time_s = Tracker(time_constant_s=constant), 0.0
    tracker.update([at(0)], NO, time_s=0.0)
    for gap in gaps:
        time_s += gap
        (track,) = tracker.update([at(0)], YES, time_s=time_s)
    assert track.number == 1
    assert track.probabilities[0] == pytest.approx(1 - math.exp(-time_s / constant), abs=1e-4)
    assert track.probabilities.sum() == pytest.approx(1.0, abs=1e-4)


def test_a_constant_of_zero_smooths_nothing_and_time_that_stands_still_changes_nothing() -> None:
    raw, smooth = Tracker(time_constant_s=0), Tracker(time_constant_s=1)
    for tracker in (raw, smooth):
        tracker.update([at(0)], NO, time_s=1.0)
    assert raw.update([at(0)], YES, time_s=1.0)[0].probabilities.tolist() == [1, 0]
    assert smooth.update([at(0)], YES, time_s=1.0)[0].probabilities.tolist() == [0, 1]
    assert smooth.update([at(0)], YES, time_s=0.5)[0].probabilities.tolist() == [0, 1]


def test_faces_keep_their_numbers_when_they_move_and_change_order() -> None:
    tracker = Tracker()
    rows = np.concatenate([YES, NO])
    first = tracker.update([at(0), at(50)], rows, time_s=0.0)
    second = tracker.update([at(52), at(2)], rows[::-1], time_s=0.1)
    assert [t.number for t in first] == [1, 2]
    assert [t.number for t in second] == [2, 1]
    assert second[1].probabilities[0] == pytest.approx(1.0)


def test_a_face_that_is_missed_for_a_moment_keeps_its_number_and_a_later_one_gets_a_new_one() -> None:
    tracker = Tracker()
    none = np.zeros((0, 2), np.float32)
    tracker.update([at(0)], YES, time_s=0.0)
    assert tracker.update([], none, time_s=0.1) == []
    assert tracker.update([at(0)], YES, time_s=0.1 + MAX_GAP_S / 2)[0].number == 1
    assert tracker.update([at(0)], YES, time_s=9.0)[0].number == 2


def test_the_pair_of_largest_overlap_comes_first() -> None:
    assert match_boxes([at(0), at(4)], [at(3)]) == {0: 1}
    # The first new box prefers old 1, which the second one overlaps even more; it then takes old 0.
    assert match_boxes([at(0), at(4)], [at(3), at(4)]) == {1: 1, 0: 0}


def test_too_little_overlap_is_another_face() -> None:
    side = 10.0
    shift = side * (1 - MIN_OVERLAP) / (1 + MIN_OVERLAP)  # of two squares, where their overlap is the limit
    assert match_boxes([at(0)], [at(shift - 0.01)]) == {0: 0}
    assert match_boxes([at(0)], [at(shift + 0.01)]) == {}
