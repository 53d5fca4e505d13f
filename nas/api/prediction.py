"""Faces in pictures, videos and cameras, labelled by a model, and the benchmark of the whole chain."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nas import registry
from nas.api.runs import pick
from nas.errors import ConfigError
from nas.results.run import load_run
from nas.results.selection import find_record
from nas.vision.base import DEFAULT_MIN_FACE, Detector, Pixels
from nas.vision.benchmark import DEFAULT_FRAMES, PredictionBenchmark, run_benchmark
from nas.vision.classifier import FaceClassifier
from nas.vision.framing import find_framing
from nas.vision.labelling import NO_LIMITS, LabelSummary, Limits, label_source
from nas.vision.models import find_model
from nas.vision.outputs import AnnotatedFiles, CsvTable, JsonLines, Output, Window, face_rows
from nas.vision.predictor import FacePredictor, LabelledFrame
from nas.vision.sources import Source, open_source
from nas.vision.tracking import DEFAULT_TIME_CONSTANT_S

LogFunction = Callable[[str], None]

FACE_COLUMNS = ("source", "frame", "time_s", "track", "x", "y", "width", "height", "score", "label")
"""Columns of `predict` before those of the classes."""
DEFAULT_DETECTOR = "haar"


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """How faces are found and labelled.

    Attributes:
        detector: name of a face detector.
        detector_model: its file, for detectors that need one.
        classes: class names in the order of the outputs, for models that do not name them.
        pixels: range of pixels that a model of another program takes: 0..255, 0..1, -1..1 or imagenet.
        framing: data set whose crops the model expects; None takes the one that its file names.
        min_face: side in pixels of the smallest face to look for.
        smoothing_s: time constant in seconds by which labels of a video are smoothed; 0 smooths nothing.
        threads: of the model's runtime.
    """

    detector: str = DEFAULT_DETECTOR
    detector_model: Path | None = None
    classes: Sequence[str] = ()
    pixels: str | None = None
    framing: str | None = None
    min_face: int = DEFAULT_MIN_FACE
    smoothing_s: float = DEFAULT_TIME_CONSTANT_S
    threads: int = 1


@dataclass(frozen=True, kw_only=True)
class Chain:
    """An open predictor: its model, and what the user should know about it."""

    predictor: FacePredictor
    classifier: FaceClassifier
    notes: tuple[str, ...]


def predict(
    model: str | Path,
    source: str | Path | int,
    *,
    out: str | Path | None = None,
    detector: str = DEFAULT_DETECTOR,
    detector_model: str | Path | None = None,
    classes: Sequence[str] = (),
    pixels: str | None = None,
    framing: str | None = None,
    min_face: int = DEFAULT_MIN_FACE,
    smoothing_s: float = DEFAULT_TIME_CONSTANT_S,
    frames: int | None = None,
    threads: int = 1,
    log: LogFunction = lambda _: None,
) -> pd.DataFrame:
    """Find the faces in a picture, a folder, a video or a camera, and label them.

    Args:
        model: an ONNX file, a run (the member that `pick` chooses), RUN:TRIAL, the folder of an exported model, or a
            reference network such as resnet-56k.
        source: a picture, a folder of pictures and videos, a video, or the number of a camera.
        out: folder or file of annotated copies; None writes none.
        detector: name of the face detector: haar, dlib or yunet.
        detector_model: file of the detector, for yunet.
        classes: class names in the order of the model's outputs, for models that do not name them.
        pixels: range of pixels that a model of another program takes: 0..255, 0..1, -1..1 or imagenet.
        framing: data set whose crops the model expects, such as fer2013; None takes the one that its file names.
        min_face: side in pixels of the smallest face to look for.
        smoothing_s: time constant in seconds by which labels of a video are smoothed; 0 smooths nothing.
        frames: number of frames to read at most.
        threads: of the model's runtime.
        log: called with a line about each thing that cannot be read, and each source without a face.

    Returns:
        One row for each face of each frame, the largest face of a frame first. Columns: `source`, `frame`, `time_s` in
        the source, `track` (number of the face through a video), `x`, `y`, `width`, `height` in pixels, `score` of the
        detector, `label`, and the probability of each class.

    Raises:
        ConfigError: model, source or detector does not exist or does not fit, or nothing of the source can be read.
        MissingPackageError: OpenCV, pillow or the detector's package is not installed.
        UnknownMemberError: there is no such detector.

    Examples:
        >>> faces = nas.predict("runs/synthetic-plain-jetson:8", "photo.png", pixels="0..255", classes=("a", "b", "c"))
        >>> faces["label"].tolist()
        ['c']
        >>> list(faces.columns[-3:])
        ['a', 'b', 'c']
    """
    options = ModelOptions(
        detector=detector, detector_model=Path(detector_model) if detector_model else None, classes=classes,
        pixels=pixels, framing=framing, min_face=min_face, smoothing_s=smoothing_s, threads=threads,
    )  # fmt: skip
    opened = open_source(str(source))
    table = _FaceTable()
    with open_chain(model, options) as chain:
        for note in (*chain.notes, *opened.notes):
            log(note)
        outputs: list[Output] = [table, *(_annotated(Path(out), opened) if out is not None else ())]
        summary = label_source(opened, chain.predictor, outputs, limits=Limits(frames=frames), log=log)
        names = chain.classifier.classes
    if not summary.sources and summary.faults:
        raise ConfigError(f"{summary.faults[0].source}: {summary.faults[0].reason}")
    return pd.DataFrame(table.rows, columns=[*FACE_COLUMNS, *names])


def label_faces(
    model: str | Path, source: str | Path, options: ModelOptions, *, out: Path | None = None, json: Path | None = None,
    csv: Path | None = None, show: bool = False, limits: Limits = NO_LIMITS, log: LogFunction = lambda _: None,
) -> LabelSummary:  # fmt: skip
    """What `nas predict` does: as `predict`, into files or a window, without a table in memory.

    Args:
        model: see `predict`.
        source: see `predict`.
        options: how faces are found and labelled.
        out: folder or file of annotated copies.
        json: file of JSON lines, one a face.
        csv: file of a table, one row a face.
        show: whether a window shows the frames.
        limits: where to stop.
        log: see `predict`.

    Raises:
        ConfigError: see `predict`; also where an output does not fit, or there is no display for a window.
        OSError: an output cannot be written.
    """
    opened = open_source(source)
    with open_chain(model, options) as chain:
        for note in (*chain.notes, *opened.notes):
            log(note)
        outputs: list[Output] = []
        try:
            if out is not None:
                outputs += _annotated(out, opened)
            if show:
                outputs.append(Window())
            if json is not None:
                outputs.append(JsonLines(json))
            if csv is not None:
                outputs.append(CsvTable(csv, chain.classifier.classes))
        except BaseException:  # those that are open already must not stay so
            for output in outputs:
                output.close()
            raise
        return label_source(opened, chain.predictor, outputs, limits=limits, log=log)


def benchmark_prediction(
    model: str | Path, source: str | Path, options: ModelOptions, *, frames: int = DEFAULT_FRAMES,
    seconds: float | None = None, log: LogFunction = lambda _: None,
) -> PredictionBenchmark:  # fmt: skip
    """Time the chain on a source, which is read again from its beginning as often as needed.

    Args:
        model: see `predict`.
        source: see `predict`.
        options: how faces are found and labelled.
        frames: number of timed frames; the warm-up comes before.
        seconds: seconds after which the timing ends early.
        log: see `predict`.

    Raises:
        ConfigError: see `predict`.
    """
    opened = open_source(source)
    with open_chain(model, options) as chain:
        for note in (*chain.notes, *opened.notes):
            log(note)
        return run_benchmark(
            opened, chain.predictor, model=chain.classifier.path, detector=options.detector, frames=frames,
            seconds=seconds,
        )  # fmt: skip


@contextmanager
def open_chain(model: str | Path, options: ModelOptions) -> Iterator[Chain]:
    """A predictor of a model and a detector, open within the block.

    Raises:
        ConfigError: the model or the detector does not exist or does not fit.
        MissingPackageError: a package is not installed.
        UnknownMemberError: there is no such detector.
    """
    detector: Detector = registry.load("detector", options.detector)
    detect = detector.load(model=options.detector_model, min_face=options.min_face)
    path = _model_file(model)
    with FaceClassifier(
        path, classes=options.classes, pixel_range=options.pixels, threads=options.threads
    ) as classifier:
        framing, note = find_framing(options.detector, options.framing or classifier.dataset)
        predictor = FacePredictor(detect, framing, classifier, time_constant_s=options.smoothing_s)
        notes = (*classifier.notes, *([note] if note else ()))
        yield Chain(predictor=predictor, classifier=classifier, notes=notes)


def _model_file(word: str | Path) -> Path:
    run, _, which = str(word).rpartition(":")
    if run and not Path(word).exists() and (Path(run) / "config.toml").is_file():
        folder = load_run(run).folder
        record = find_record(folder.records(), which)
        if not record.model or not (folder.path / record.model).is_file():
            raise ConfigError(f"trial {record.trial} of {run} must have an ONNX file, but has none; name another one")
        return folder.path / record.model
    return find_model(word, pick_file=_picked_file)


def _picked_file(run: Path) -> Path:
    folder = load_run(run).folder
    return folder.path / pick(folder).record.model


def _annotated(out: Path, source: Source) -> list[Output]:
    is_single = source.root is None
    return [AnnotatedFiles(out, root=source.root, is_single=is_single)]


class _FaceTable(Output):
    """Rows of the table that `predict` returns."""

    def __init__(self) -> None:
        self.rows: list[list[object]] = []

    def write(self, labelled: LabelledFrame, annotated: Pixels | None) -> bool:
        """Keep a row for each face."""
        for row in face_rows(labelled):
            plain = [row["source"], row["frame"], row["time_s"], row["track"], *row["box"], row["score"], row["label"]]
            self.rows.append([*plain, *row["probabilities"].values()])
        return True
