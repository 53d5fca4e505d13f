"""Labelling a whole source: counts, faults, limits, and outputs that are closed in any case."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nas.vision.base import Box, Pixels
from nas.vision.frames import Frame, ReadFault
from nas.vision.labelling import NO_LIMITS, LabelSummary, Limits, label_source
from nas.vision.outputs import Output
from nas.vision.predictor import Face, LabelledFrame
from nas.vision.sources import open_source
from tests.vision.pictures import bright_quadrant, write_picture

BLACK = np.zeros((8, 8, 3), np.uint8)
WHITE_CORNER = bright_quadrant(0, size=8)


class Recorder(Output):
    """An output that remembers, and wants no more after some frames."""

    needs_pixels = True

    def __init__(self, wants: int = 1000, error: BaseException | None = None) -> None:
        self.frames: list[LabelledFrame] = []
        self.pictures: list[Pixels | None] = []
        self.is_closed = False
        self._wants, self._error = wants, error

    def write(self, labelled: LabelledFrame, annotated: Pixels | None) -> bool:
        if self._error is not None:
            raise self._error
        self.frames.append(labelled)
        self.pictures.append(annotated)
        return len(self.frames) < self._wants

    def close(self) -> None:
        self.is_closed = True


class Predictor:
    """Labels a frame that is not black with one happy face."""

    def predict(self, frame: Frame) -> LabelledFrame:
        face = Face(box=Box(x=0, y=0, width=8, height=8), label="happy", probabilities={"happy": 1.0})
        return LabelledFrame(frame=frame, faces=(face,) if frame.pixels.any() else ())


def label(
    entries: list[Frame | ReadFault], *outputs: Output, limits: Limits = NO_LIMITS, **options: Any
) -> LabelSummary:
    source: Any = SimpleNamespace(frames=lambda: iter(entries))
    predictor: Any = Predictor()
    return label_source(source, predictor, outputs, limits=limits, **options)


def frames_of(source: str, *pictures: Pixels) -> list[Frame | ReadFault]:
    return [Frame(source=source, index=i, pixels=p, is_video=len(pictures) > 1) for i, p in enumerate(pictures)]


def test_faces_frames_sources_and_faults_are_counted_and_said() -> None:
    lines: list[str] = []
    recorder = Recorder()
    summary = label(
        [
            *frames_of("a.png", WHITE_CORNER), ReadFault(source="b.png", reason="it is empty"),
            *frames_of("c.mp4", BLACK, WHITE_CORNER, BLACK), *frames_of("d.png", BLACK),
        ], recorder, log=lines.append,
    )  # fmt: skip
    assert (summary.faces, summary.labels["happy"]) == (2, 2)
    assert (summary.frames, summary.frames_without_face) == (5, 3)
    assert summary.sources == ["a.png", "c.mp4", "d.png"]
    assert summary.faceless == ["d.png"]
    assert [fault.source for fault in summary.faults] == ["b.png"]
    assert lines == ["b.png: it is empty", "d.png: no face"]
    assert summary.frames_per_s > 0
    assert recorder.is_closed
    assert not np.array_equal(recorder.pictures[0], WHITE_CORNER)  # annotated


@pytest.mark.parametrize(("limits", "count"), [(Limits(frames=2), 2), (Limits(seconds=0.0), 0), (NO_LIMITS, 4)])
def test_limits_end_it(limits: Limits, count: int) -> None:
    assert label(frames_of("c.mp4", *[WHITE_CORNER] * 4), limits=limits).frames == count


def test_an_output_that_wants_no_more_ends_it() -> None:
    recorder = Recorder(wants=2)
    assert label(frames_of("c.mp4", *[WHITE_CORNER] * 4), recorder).frames == 2


def test_ctrl_c_ends_it_with_what_is_done() -> None:
    def interrupted() -> Iterator[Frame]:
        yield Frame(source="camera 0", pixels=WHITE_CORNER)
        raise KeyboardInterrupt

    recorder = Recorder()
    summary = label(interrupted(), recorder)  # type: ignore[arg-type]
    assert summary.is_interrupted
    assert (summary.frames, recorder.is_closed) == (1, True)


def test_outputs_are_closed_after_an_error() -> None:
    recorder, broken = Recorder(), Recorder(error=OSError("disk full"))
    with pytest.raises(OSError, match="disk full"):
        label(frames_of("a.png", WHITE_CORNER), recorder, broken)
    assert recorder.is_closed
    assert broken.is_closed


def test_an_output_that_cannot_be_closed_leaves_none_open(monkeypatch: pytest.MonkeyPatch) -> None:
    first, last = Recorder(), Recorder()

    def full() -> None:
        raise OSError("disk full")

    monkeypatch.setattr(last, "close", full)
    with pytest.raises(OSError, match="disk full"):
        label(frames_of("a.png", WHITE_CORNER), first, last)
    assert first.is_closed


def test_a_source_of_files_is_read(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", WHITE_CORNER)
    (tmp_path / "b.png").write_bytes(b"")
    predictor: Any = Predictor()
    summary = label_source(open_source(tmp_path), predictor, [], limits=NO_LIMITS)
    assert (summary.frames, len(summary.faults)) == (1, 1)
