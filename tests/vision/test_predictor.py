"""The predictor: a frame to labelled faces, with known boxes and a net whose class is the brightest quadrant."""

from collections.abc import Iterator

import numpy as np
import pytest

from nas.vision.base import Box, Pixels
from nas.vision.classifier import FaceClassifier
from nas.vision.frames import Frame
from nas.vision.framing import Framing
from nas.vision.predictor import FacePredictor
from nas.vision.stage_times import STAGES
from tests.vision.pictures import CLASSES, bright_quadrant, quadrant_net, whole_picture

BARE = Framing(scale=1.0, right=0.0, down=0.0, source="by hand")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaceClassifier]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nas.distillation.onnx_teacher.check_in_child", lambda *_, **__: None)
        net = FaceClassifier(quadrant_net(tmp_path_factory.mktemp("net") / "net.onnx"), pixel_range="0..255")
    yield net
    net.close()


def a_frame(place: int, *, index: int = 0, source: str = "a.mp4", is_video: bool = True) -> Frame:
    picture = bright_quadrant(place, size=64)
    return Frame(source=source, index=index, time_s=0.1 * index, pixels=picture, is_video=is_video)


def test_each_face_gets_the_label_of_its_crop(classifier: FaceClassifier) -> None:
    picture = np.concatenate([bright_quadrant(2, size=64), bright_quadrant(1, size=64)], axis=1)
    boxes = [Box(x=64, y=0, width=64, height=64, score=2.0), Box(x=0, y=0, width=64, height=64, score=1.0)]

    def detect(_: Pixels) -> list[Box]:
        return boxes

    found = FacePredictor(detect, BARE, classifier).predict(Frame(source="a.png", pixels=picture))
    assert [face.label for face in found.faces] == ["happy", "sad"]
    assert [face.box for face in found.faces] == boxes
    assert [face.track for face in found.faces] == [None, None]
    for face in found.faces:
        assert tuple(face.probabilities) == CLASSES
        assert sum(face.probabilities.values()) == pytest.approx(1.0)


def test_the_framing_decides_what_the_net_sees(classifier: FaceClassifier) -> None:
    """Of a white lower right quadrant, the middle has a white lower right quarter, and the upper left is black."""
    picture = bright_quadrant(3, size=64)
    lower_right = Framing(scale=0.5, right=0.0, down=0.0, source="the middle")
    (face,) = FacePredictor(whole_picture, lower_right, classifier).predict(Frame(source="a", pixels=picture)).faces
    assert face.label == "neutral"
    corner = Framing(scale=0.5, right=-0.25, down=-0.25, source="a black quarter")
    (face,) = FacePredictor(whole_picture, corner, classifier).predict(Frame(source="a", pixels=picture)).faces
    assert list(face.probabilities.values()) == pytest.approx([0.25] * 4)


def test_a_frame_without_faces_has_none(classifier: FaceClassifier) -> None:
    black = np.zeros((40, 40, 3), np.uint8)
    assert FacePredictor(whole_picture, BARE, classifier).predict(Frame(source="a", pixels=black)).faces == ()
    video = Frame(source="a", pixels=black, is_video=True)
    assert FacePredictor(whole_picture, BARE, classifier).predict(video).faces == ()


def test_labels_of_a_video_are_smoothed_and_those_of_pictures_are_not(classifier: FaceClassifier) -> None:
    predictor = FacePredictor(whole_picture, BARE, classifier, time_constant_s=1.0)
    labels = [predictor.predict(a_frame(place, index=i)).faces[0] for i, place in enumerate((0, 0, 3, 0))]
    assert [face.label for face in labels] == ["angry"] * 4
    assert {face.track for face in labels} == {1}
    assert labels[2].probabilities["neutral"] == pytest.approx(1 - np.exp(-0.1), abs=1e-3)
    pictures = [predictor.predict(a_frame(place, is_video=False)).faces[0].label for place in (0, 3)]
    assert pictures == ["angry", "neutral"]


def test_another_video_begins_new_tracks(classifier: FaceClassifier) -> None:
    predictor = FacePredictor(whole_picture, BARE, classifier, time_constant_s=9.0)
    predictor.predict(a_frame(0))
    (face,) = predictor.predict(a_frame(3, index=1, source="b.mp4")).faces
    assert (face.label, face.track) == ("neutral", 1)
    (again,) = predictor.predict(a_frame(1, index=0, source="b.mp4")).faces
    assert again.label == "happy"


def test_stages_are_timed(classifier: FaceClassifier) -> None:
    predictor = FacePredictor(whole_picture, BARE, classifier)
    predictor.predict(a_frame(0))
    predictor.times.end_frame()
    taken = {stage: predictor.times.seconds[stage][0] > 0 for stage in STAGES}
    assert taken == {"read": False, "detect": True, "crop": True, "classify": True, "draw": False}
