"""The benchmark of framing: photographs made of crops, and its figures with a detector that is always right."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.framing import MARGIN_SHARE, PHASES, STEP, find_faces, measure, photograph, score
from nas.data.base import Split
from nas.vision.base import Box, Pixels

FACES = np.random.default_rng(0).integers(60, 200, (24, 1, 48, 48)).astype(np.uint8)
NET = Path(__file__).resolve().parents[2] / "examples" / "fer2013-front" / "resnet-56k" / "model.onnx"
CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


@pytest.fixture(autouse=True)
def _trusted_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.distillation.onnx_teacher.check_in_child", lambda *_, **__: None)


def tight(pixels: Pixels) -> list[Box]:
    """A detector whose box is a crop without its outer tenth, moved up by a twentieth of the box."""
    side = pixels.shape[0] / (1 + 2 * MARGIN_SHARE)
    start = MARGIN_SHARE * side
    width = 0.8 * side
    return [Box(x=start + 0.1 * side, y=start + 0.1 * side - 0.05 * width, width=width, height=width)]


def test_the_crop_is_where_it_is_said_to_be_and_sizes_are_within_a_step() -> None:
    sides = set()
    for index, face in enumerate(FACES):
        pixels, truth = photograph(face, index)
        inside = pixels[int(truth.y) :, int(truth.x) :][: int(truth.height), : int(truth.width), 0]
        small = inside.reshape(48, -1, 48, inside.shape[1] // 48).mean((1, 3)) if inside.shape[0] % 48 == 0 else None
        if small is not None:
            assert np.corrcoef(small.ravel(), face.ravel())[0, 1] > 0.95
        assert pixels[0, 0].tolist() == [pixels[int(truth.y), int(truth.x), 0]] * 3
        sides.add(truth.width)
    assert len(sides) == PHASES
    assert max(sides) / min(sides) < STEP


def test_a_known_box_gives_the_framing_in_closed_form() -> None:
    n, quartiles = measure(FACES, tight)
    assert n == len(FACES)
    assert quartiles[:, 1] == pytest.approx([1 / 0.8, 0.0, 0.05], abs=0.01)


def test_faces_that_are_not_found_count_as_wrong_in_the_last_column() -> None:
    split = Split(images=FACES, labels=np.zeros(len(FACES), np.int64))
    found = find_faces(FACES, lambda pixels: tight(pixels) if pixels.shape[0] > 300 else [])
    assert 0 < len(found) < len(FACES)
    row = score("haar", split, CLASSES, found, NET)
    assert (row.faces, row.found) == (len(FACES), len(found))
    assert row.chain_of_all == pytest.approx(row.chain * len(found) / len(FACES))
    assert row.low <= row.chain <= row.high
