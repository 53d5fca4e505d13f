"""Drawing: what changes in a picture, and what stays."""

import sys

import numpy as np
import pytest

from nas.errors import MissingPackageError
from nas.vision import annotation
from nas.vision.annotation import PALETTE, annotate, class_colour, describe_face
from nas.vision.base import Box
from nas.vision.frames import Frame
from nas.vision.predictor import Face, LabelledFrame


def a_face(x: float, y: float, side: float, *, label: str = "happy") -> Face:
    probabilities = {"angry": 0.05, "happy": 0.05, "glücklich": 0.05} | {label: 0.9}
    return Face(box=Box(x=x, y=y, width=side, height=side), label=label, probabilities=probabilities)


def drawn(*faces: Face, size: int = 200) -> np.ndarray:
    picture = np.full((size, size, 3), 30, np.uint8)
    result = annotate(LabelledFrame(frame=Frame(source="a.png", pixels=picture), faces=faces))
    assert (picture == 30).all()
    return result


def test_a_box_has_the_colour_of_its_class_and_its_inside_stays() -> None:
    face = a_face(50, 60, 80)
    picture = drawn(face)
    assert class_colour(face) == PALETTE[1]
    for row, column in ((100, 50), (100, 129), (139, 90)):
        assert tuple(picture[row, column]) == PALETTE[1]
    assert (picture[70:130, 60:120] == 30).all()
    assert (picture[141:] == 30).all()


def test_the_label_is_above_the_box_or_in_it() -> None:
    above = drawn(a_face(50, 60, 80))
    assert tuple(above[58, 52]) == PALETTE[1]
    inside = drawn(a_face(50, 0, 80))
    assert tuple(inside[1, 51]) == PALETTE[1]
    assert (inside[:, :49] == 30).all()


@pytest.mark.parametrize(("x", "y", "side"), [(-30, -30, 60), (180, 190, 90), (-50, 20, 400), (0, 0, 1), (199, 199, 1)])
def test_boxes_beyond_the_picture_are_drawn_as_far_as_they_reach(x: float, y: float, side: float) -> None:
    assert (drawn(a_face(x, y, side)) != 30).any()


def test_pictures_smaller_than_a_label_are_drawn_too() -> None:
    assert drawn(a_face(0, 0, 4), size=4).shape == (4, 4, 3)


def test_the_label_tells_class_and_percent_in_any_letters() -> None:
    face = a_face(50, 60, 80, label="glücklich")
    assert describe_face(face) == "glücklich 90 %"
    other = a_face(50, 60, 80, label="gl?cklich")
    assert not np.array_equal(drawn(face), drawn(other))


def test_a_missing_pillow_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    annotation._text_mask.cache_clear()
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingPackageError, match=r"need pillow: pip install 'fer-nas\[vision\]'"):
        drawn(a_face(50, 60, 80))
