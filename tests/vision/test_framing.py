"""Framing: squares in closed form, crops beyond the picture, and which framing stands in."""

from pathlib import Path

import numpy as np
import pytest

from nas import registry
from nas.vision.base import Box
from nas.vision.framing import FRAMINGS, WITHOUT_FRAMING, Framing, crop, find_framing, frame_box
from tests.vision.pictures import ASTRONAUT_FACE, astronaut


def test_the_square_lies_around_the_box_in_widths_of_it() -> None:
    framing = Framing(scale=1.5, right=0.1, down=-0.2, source="by hand")
    square = frame_box(Box(x=10, y=20, width=40, height=60, score=3), framing)
    # The box's centre is (30, 50); the crop's is (30 + 4, 50 - 8), with a side of 60.
    assert square == Box(x=pytest.approx(4), y=pytest.approx(12), width=60, height=60, score=3)


def test_a_crop_of_the_size_asked_for_is_the_pixels_themselves() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    found = crop(pixels, Box(x=5, y=3, width=8, height=8), (3, 8, 8))
    assert np.array_equal(found[0].transpose(1, 2, 0), pixels[3:11, 5:13])


def test_edges_are_continued_beyond_the_picture() -> None:
    pixels = np.arange(4, dtype=np.uint8).reshape(2, 2, 1).repeat(3, axis=2)
    found = crop(pixels, Box(x=-1, y=-1, width=4, height=4), (3, 4, 4))
    assert found[0, 0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    outside = crop(pixels, Box(x=50, y=-90, width=3, height=3), (3, 3, 3))
    assert (outside == 1).all()


def test_a_grey_crop_is_luma() -> None:
    pixels = np.full((4, 4, 3), (200, 100, 50), np.uint8)
    assert crop(pixels, Box(x=0, y=0, width=4, height=4), (1, 2, 2))[0, 0, 0, 0] == round(0.299 * 200 + 58.7 + 5.7)


def test_a_crop_of_less_than_a_pixel_has_one() -> None:
    pixels = np.full((4, 4, 3), 9, np.uint8)
    assert (crop(pixels, Box(x=1, y=1, width=0.1, height=0.1), (1, 2, 2)) == 9).all()


@pytest.mark.parametrize("detector", registry.names("detector"))
def test_every_detector_has_a_framing_of_fer2013_with_its_source(detector: str) -> None:
    framing, note = find_framing(detector, "FER2013")
    assert not note
    assert framing is FRAMINGS[detector, "fer2013"]
    assert 0.8 < framing.scale < 1.6
    assert "Training" in framing.source
    assert find_framing(detector, "ferplus") == (framing, "")


@pytest.mark.parametrize("dataset", [*WITHOUT_FRAMING, "mine", None])
def test_another_data_sets_framing_is_announced(dataset: str | None) -> None:
    framing, note = find_framing("haar", dataset)
    assert framing is FRAMINGS["haar", "fer2013"]
    assert note.startswith("faces are framed as in FER2013: ")


def test_a_detector_without_figures_keeps_its_box() -> None:
    framing, note = find_framing("new", "fer2013")
    assert (framing.scale, framing.right, framing.down) == (1, 0, 0)
    assert "boxes of detector new" in note


@pytest.mark.parametrize("detector", ["haar", "dlib"])
def test_detectors_frame_the_same_face_alike(detector: str) -> None:
    """Boxes differ by a fifth and more; squares of FER2013 must not."""
    box = registry.load("detector", detector).load(min_face=60)(astronaut())[0]
    square = frame_box(box, find_framing(detector, "fer2013")[0])
    assert square.overlap(frame_box(ASTRONAUT_FACE, find_framing("haar", "fer2013")[0])) > 0.6


def test_the_benchmark_that_is_the_source_exists() -> None:
    root = Path(__file__).resolve().parents[2]
    assert all(
        (root / f.source.partition("benchmarks/")[2].split()[0].join(("benchmarks/", ""))).is_file()
        for f in FRAMINGS.values()
    )
