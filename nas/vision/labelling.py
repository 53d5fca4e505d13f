"""Labelling: all frames of a source through a predictor into outputs, with what went wrong on the way."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from nas.vision.annotation import annotate
from nas.vision.frames import Frame, ReadFault
from nas.vision.outputs import Output
from nas.vision.predictor import FacePredictor
from nas.vision.sources import Source


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Where to stop; None means at the end of the source.

    Attributes:
        frames: number of frames.
        seconds: of the clock.
    """

    frames: int | None = None
    seconds: float | None = None


NO_LIMITS = Limits()


@dataclass(kw_only=True)
class LabelSummary:
    """What came out of a source.

    Attributes:
        labels: number of faces by label, over all frames.
        sources: sources of which at least one frame was read.
        frames: frames read.
        frames_without_face: of these.
        faceless: pictures and videos without any face, in order.
        faults: what could not be read.
        elapsed_s: seconds of the whole.
        is_interrupted: whether the user stopped it.
    """

    labels: Counter[str] = field(default_factory=Counter)
    sources: list[str] = field(default_factory=list)
    frames: int = 0
    frames_without_face: int = 0
    faceless: list[str] = field(default_factory=list)
    faults: list[ReadFault] = field(default_factory=list)
    elapsed_s: float = 0.0
    is_interrupted: bool = False

    @property
    def faces(self) -> int:
        """Faces over all frames."""
        return sum(self.labels.values())

    @property
    def frames_per_s(self) -> float:
        """Frames by seconds of the whole."""
        return self.frames / self.elapsed_s if self.elapsed_s else 0.0


def label_source(
    source: Source, predictor: FacePredictor, outputs: Sequence[Output], *, limits: Limits,
    log: Callable[[str], None] = lambda _: None,
) -> LabelSummary:  # fmt: skip
    """Label the faces of all frames of a source. Ctrl-C ends it as the source's end would.

    Args:
        source: what to read.
        predictor: labels each frame.
        outputs: get each frame; closed at the end in any case.
        limits: where to stop.
        log: called with a line about each fault and each source without a face.

    Raises:
        ConfigError: an output does not fit the source, or the model's outputs are not finite.
        OSError: an output cannot be written.
    """
    summary, begin = LabelSummary(), time.monotonic()
    with ExitStack() as closing:
        for output in outputs:
            closing.callback(output.close)  # each one, also where another one fails
        try:
            _label_frames(source.frames(), predictor, outputs, summary, limits, log)
        except KeyboardInterrupt:
            summary.is_interrupted = True
    summary.elapsed_s = time.monotonic() - begin
    return summary


def _label_frames(
    frames: Iterator[Frame | ReadFault], predictor: FacePredictor, outputs: Sequence[Output], summary: LabelSummary,
    limits: Limits, log: Callable[[str], None],
) -> None:  # fmt: skip
    begin = time.monotonic()
    needs_pixels = any(output.needs_pixels for output in outputs)
    current, found = "", 0

    def end_of_source() -> None:
        if current and not found:
            summary.faceless.append(current)
            log(f"{current}: no face")

    while limits.frames is None or summary.frames < limits.frames:
        frame = next(frames, None)
        if frame is None or (limits.seconds is not None and time.monotonic() - begin > limits.seconds):
            break
        if isinstance(frame, ReadFault):
            summary.faults.append(frame)
            log(f"{frame.source}: {frame.reason}")
            continue
        if frame.source != current:
            end_of_source()
            current, found = frame.source, 0
            summary.sources.append(current)
        labelled = predictor.predict(frame)
        annotated = annotate(labelled) if needs_pixels else None
        summary.frames += 1
        summary.frames_without_face += not labelled.faces
        summary.labels.update(face.label for face in labelled.faces)
        found += len(labelled.faces)
        wants_more = [output.write(labelled, annotated) for output in outputs]
        if not all(wants_more):
            break
    end_of_source()
