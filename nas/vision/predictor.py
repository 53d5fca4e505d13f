"""Predictor: one frame to labelled faces, through detector, framing, classifier and tracker."""

from dataclasses import dataclass

import numpy as np

from nas.vision.base import Box, DetectFunction
from nas.vision.classifier import FaceClassifier, Floats
from nas.vision.frames import Frame
from nas.vision.framing import Framing, crop, frame_box
from nas.vision.stage_times import StageTimes
from nas.vision.tracking import DEFAULT_TIME_CONSTANT_S, Tracker


@dataclass(frozen=True, kw_only=True)
class Face:
    """A labelled face.

    Attributes:
        box: of the detector, in pixels of the picture.
        label: class of the largest probability; the first of equal ones.
        probabilities: by class, smoothed over time in a video.
        track: number of the face through its video; None in a picture.
    """

    box: Box
    label: str
    probabilities: dict[str, float]
    track: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledFrame:
    """A frame with its faces, the largest first."""

    frame: Frame
    faces: tuple[Face, ...]


class FacePredictor:
    """Labels the faces of frames.

    Life: made of open parts, which the caller closes; `predict` with each frame, a video's frames in order. A new video
    begins new tracks.
    """

    def __init__(
        self, detect: DetectFunction, framing: Framing, classifier: FaceClassifier, *,
        time_constant_s: float = DEFAULT_TIME_CONSTANT_S, times: StageTimes | None = None,
    ) -> None:  # fmt: skip
        self._detect, self._framing, self._classifier = detect, framing, classifier
        self._time_constant_s = time_constant_s
        self.times = times or StageTimes()
        self._tracker, self._tracked_source = Tracker(time_constant_s=time_constant_s), ""

    def predict(self, frame: Frame) -> LabelledFrame:
        """The faces of a frame.

        Raises:
            ConfigError: the model's outputs are not finite.
        """
        with self.times.measure("detect"):
            boxes = self._detect(frame.pixels)
        with self.times.measure("crop"):
            crops = [crop(frame.pixels, frame_box(box, self._framing), self._classifier.input_shape) for box in boxes]
        with self.times.measure("classify"):
            rows = self._classifier.probabilities(
                np.concatenate(crops) if crops else np.zeros((0, *self._classifier.input_shape), np.uint8)
            )
            numbers: list[int | None] = [None] * len(boxes)
            if frame.is_video:
                rows, numbers = self._track(frame, boxes, rows)
        classes = self._classifier.classes
        faces = [
            Face(
                box=box, label=classes[int(row.argmax())], track=number,
                probabilities={name: float(p) for name, p in zip(classes, row, strict=True)},
            )
            for box, row, number in zip(boxes, rows, numbers, strict=True)
        ]  # fmt: skip
        return LabelledFrame(frame=frame, faces=tuple(faces))

    def _track(self, frame: Frame, boxes: list[Box], rows: Floats) -> tuple[Floats, list[int | None]]:
        if frame.source != self._tracked_source or frame.index == 0:
            self._tracker, self._tracked_source = Tracker(time_constant_s=self._time_constant_s), frame.source
        tracks = self._tracker.update(boxes, rows, time_s=frame.time_s)
        return (np.stack([t.probabilities for t in tracks]) if tracks else rows), [t.number for t in tracks]
