"""Benchmark of the whole chain: the table that papers of this field print, and the time of each stage.

It needs no display: frames are read, searched, cropped, classified and drawn, and the drawn ones dropped. A source that
ends is read again from its beginning, so that a picture is decoded for each frame. The warm-up is left out.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nas.errors import ConfigError, ExportError
from nas.latency.costs import compute_costs
from nas.vision.annotation import annotate
from nas.vision.frames import Frame, ReadFault
from nas.vision.predictor import FacePredictor
from nas.vision.sources import Source
from nas.vision.stage_times import ProcessMeter, ProcessUse, StageSummary, summarize

DEFAULT_FRAMES = 200
WARM_UP_FRAMES = 20
"""Frames before the timing: first runs of a session allocate memory, and of a cascade build its pyramid."""


@dataclass(frozen=True, kw_only=True)
class PredictionBenchmark:
    """Figures of the chain on one source.

    Attributes:
        model: the ONNX file.
        detector: name of the detector.
        params: stored weights of the model; None where they cannot be counted.
        size_bytes: of the file.
        frames: timed frames.
        faces: mean number of faces a frame.
        frame_size: (width, height) of the last frame.
        stages: read, detect, crop, classify, draw, and whole frames.
        use: CPU and memory of the process while it was timed.
    """

    model: Path
    detector: str
    params: int | None
    size_bytes: int
    frames: int
    faces: float
    frame_size: tuple[int, int]
    stages: tuple[StageSummary, ...]
    use: ProcessUse


def run_benchmark(
    source: Source, predictor: FacePredictor, *, model: Path, detector: str, frames: int = DEFAULT_FRAMES,
    seconds: float | None = None, warm_up: int | None = None,
) -> PredictionBenchmark:  # fmt: skip
    """Time a predictor on a source.

    Args:
        source: what to read, again and again.
        predictor: with stage times.
        model: the predictor's ONNX file.
        detector: name of the predictor's detector.
        frames: timed frames, 1 or more.
        seconds: seconds of the clock after which the timing ends early; at least one frame is timed.
        warm_up: frames before; `WARM_UP_FRAMES` if None.

    Raises:
        ConfigError: the source has no frame that can be read, or ends while it is timed, as a lost camera does.
    """
    if frames < 1:
        raise ConfigError(f"--frames must be 1 or more, but got {frames}")
    warm_up = WARM_UP_FRAMES if warm_up is None else warm_up
    stream, times, meter = _endless(source), predictor.times, ProcessMeter()
    n_faces, size, begin = 0, (0, 0), time.monotonic()
    for index in range(warm_up + frames):
        if index == warm_up:
            times.clear()
            meter.begin()
            n_faces, begin = 0, time.monotonic()
        with times.measure("read"):
            frame = next(stream)
        labelled = predictor.predict(frame)
        with times.measure("draw"):
            annotate(labelled)
        times.end_frame()
        n_faces += len(labelled.faces)
        size = (frame.pixels.shape[1], frame.pixels.shape[0])
        if seconds is not None and index >= warm_up and time.monotonic() - begin >= seconds:
            break
    count = len(times.whole)
    return PredictionBenchmark(
        model=model, detector=detector, params=_count_weights(model), size_bytes=model.stat().st_size, frames=count,
        faces=n_faces / count, frame_size=size, stages=tuple(summarize(times)), use=meter.read(),
    )  # fmt: skip


def _endless(source: Source) -> Iterator[Frame]:
    """Frames of a source, again from its beginning after its end; faults are passed over.

    Raises:
        ConfigError: a whole pass gives no frame.
    """
    while True:
        n_read, fault = 0, None
        for frame in source.frames():
            if isinstance(frame, ReadFault):
                fault = fault or frame
            else:
                n_read += 1
                yield frame
        if source.camera is not None or not n_read:
            reason = f"{fault.source}: {fault.reason}" if fault else "the source has no frames; give another one"
            raise ConfigError(reason)


def _count_weights(model: Path) -> int | None:
    try:
        return compute_costs(model).params
    except ExportError:
        return None
