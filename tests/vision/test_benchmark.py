"""The benchmark: warm-up, number of frames, sources that end, and what cannot be timed."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nas.errors import ConfigError
from nas.vision.benchmark import PredictionBenchmark, run_benchmark
from nas.vision.classifier import FaceClassifier
from nas.vision.frames import Frame, ReadFault
from nas.vision.framing import find_framing
from nas.vision.predictor import FacePredictor
from nas.vision.sources import Source
from nas.vision.stage_times import STAGES
from tests.vision.pictures import bright_quadrant, quadrant_net, whole_picture, write_picture, write_video


@pytest.fixture
def classifier(tmp_path: Path) -> Iterator[FaceClassifier]:
    with FaceClassifier(quadrant_net(tmp_path / "net.onnx"), pixel_range="0..255") as net:
        yield net


def bench(classifier: FaceClassifier, source: Any, **options: Any) -> PredictionBenchmark:
    predictor = FacePredictor(whole_picture, find_framing("haar", "fer2013")[0], classifier)
    return run_benchmark(source, predictor, model=classifier.path, detector="haar", **options)


def test_a_picture_is_read_for_each_frame(classifier: FaceClassifier, tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.png", bright_quadrant(0, size=64)[:48])
    figures = bench(classifier, Source(files=(path,)), frames=5, warm_up=2)
    assert (figures.frames, figures.faces, figures.frame_size) == (5, 1.0, (64, 48))
    assert [row.stage for row in figures.stages] == [*STAGES, "whole"]
    assert all(row.median_ms > 0 for row in figures.stages)
    assert sum(row.share for row in figures.stages[:-1]) < 1.0
    # The weights of the net: a kernel of 5 x 1 x 2 x 2, one of 1 x 5, and two bounds of the clipping.
    assert figures.params is None or figures.params in (25, 27)
    assert figures.size_bytes == classifier.path.stat().st_size
    assert figures.use.cpu_share > 0


def test_a_video_that_ends_begins_again_and_the_warm_up_counts_not(classifier: FaceClassifier, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [bright_quadrant(i, size=64) for i in range(3)])
    assert bench(classifier, Source(files=(path,)), frames=7, warm_up=4).frames == 7


def test_a_time_limit_ends_it_after_a_frame_at_least(classifier: FaceClassifier, tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.png", bright_quadrant(0, size=64))
    assert bench(classifier, Source(files=(path,)), frames=1000, warm_up=0, seconds=0.0).frames == 1


def test_what_cannot_be_read_is_refused(classifier: FaceClassifier, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"a.png: is not a readable image: it is empty"):
        bench(classifier, Source(files=(tmp_path / "a.png",)))
    with pytest.raises(ConfigError, match="--frames must be 1 or more, but got 0"):
        bench(classifier, Source(), frames=0)


def test_a_camera_that_is_lost_ends_it(classifier: FaceClassifier) -> None:
    frame = Frame(source="camera 0", pixels=bright_quadrant(0, size=64), is_video=True)
    lost = ReadFault(source="camera 0", reason="it was lost")
    source = SimpleNamespace(camera=0, frames=lambda: iter([frame, lost]))
    with pytest.raises(ConfigError, match="camera 0: it was lost"):
        bench(classifier, source, frames=5, warm_up=0)
