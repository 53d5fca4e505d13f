"""Contract of the face detectors, run over every member. A member that needs a file is skipped where there is none:
$NAS_DETECTORS names a folder with NAME.onnx."""

import os
from pathlib import Path

import numpy as np
import pytest

from nas import registry
from nas.vision.base import MAX_DETECTION_SIDE, DetectFunction, Detector, Pixels
from tests.vision.pictures import ASTRONAUT_FACE, astronaut, montage

DETECTORS = [registry.load("detector", name) for name in registry.names("detector")]
MIN_OVERLAP = 0.4
"""Intersection over union with a face's true box: detectors draw tighter and wider ones."""


def model_of(detector: Detector) -> Path | None:
    if not detector.needs_model:
        return None
    file = Path(os.environ.get("NAS_DETECTORS", "detectors")) / f"{detector.name}.onnx"
    if not file.is_file():
        pytest.skip(f"needs a file that the repository does not carry: {file}; set NAS_DETECTORS")
    return file


@pytest.fixture(scope="module", params=DETECTORS, ids=lambda d: d.name)
def detector(request: pytest.FixtureRequest) -> Detector:
    member: Detector = request.param
    return member


@pytest.fixture(scope="module")
def detect(detector: Detector) -> DetectFunction:
    return detector.load(model=model_of(detector), min_face=60)


def test_a_member_is_named_after_its_file(detector: Detector) -> None:
    assert registry.load("detector", detector.name) is detector


def test_a_real_face_is_found_where_it_is(detect: DetectFunction) -> None:
    (box,) = detect(astronaut())
    assert box.overlap(ASTRONAUT_FACE) > MIN_OVERLAP


def test_the_same_picture_gives_the_same_boxes_and_stays_as_it_is(detect: DetectFunction) -> None:
    picture, _ = montage((0, 2))
    before = picture.copy()
    assert detect(picture) == detect(picture)
    assert np.array_equal(picture, before)


def test_several_faces_are_found_the_largest_first(detect: DetectFunction) -> None:
    picture, faces = montage((0, 1, 2, 4))
    boxes = detect(picture)
    assert [box.area for box in boxes] == sorted((box.area for box in boxes), reverse=True)
    found = [face for face in faces if any(box.overlap(face) > MIN_OVERLAP for box in boxes)]
    assert len(found) >= 3


def test_boxes_are_in_pixels_of_a_picture_that_is_searched_in_a_smaller_copy(detect: DetectFunction) -> None:
    factor = 4
    assert factor * max(astronaut().shape) > MAX_DETECTION_SIDE
    box = detect(np.repeat(np.repeat(astronaut(), factor, axis=0), factor, axis=1))[0]
    assert box.x / factor == pytest.approx(ASTRONAUT_FACE.x, abs=25)
    assert box.width / factor == pytest.approx(ASTRONAUT_FACE.width, abs=25)


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((1, 1, 3), np.uint8),
        np.zeros((1, 400, 3), np.uint8),
        np.full((90, 90, 3), 255, np.uint8),
        np.random.default_rng(0).integers(0, 256, (200, 200, 3)).astype(np.uint8),
    ],
    ids=["one pixel", "one row", "white", "noise"],
)
def test_a_picture_without_a_face_gives_no_box(detect: DetectFunction, picture: Pixels) -> None:
    assert detect(picture) == []


def test_a_view_with_steps_is_taken(detect: DetectFunction) -> None:
    assert detect(astronaut()[:, ::-1]) == detect(np.ascontiguousarray(astronaut()[:, ::-1]))


def test_faces_below_the_smallest_are_left_out(detector: Detector) -> None:
    assert detector.load(model=model_of(detector), min_face=250)(astronaut()) == []
