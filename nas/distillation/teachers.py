"""Teacher sources: specifications of the command line, resolved to files and checked against the data.

A teacher is one of:
- an ONNX file;
- a run folder (its most accurate file), or RUN:KEY for one of its candidates;
- the folder of an exported model;
- an array .npy [N, K] of logits or probabilities for the training images in order, or .npz with the arrays `answers`
  and `labels`;
- the word `votes`: the shares of the annotators' votes that come with a data set.

PATH=WEIGHT gives a teacher a weight. Classes are matched by name if the teacher names them; outputs for classes that
the data does not have are dropped. A source that does not fit is refused before a run starts.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nas import registry
from nas.data.base import FaceData
from nas.data.classes import canonical_class_name
from nas.distillation.onnx_teacher import PIXEL_SCALINGS, RAW_PIXELS, OnnxTeacher, run_teacher
from nas.errors import ConfigError
from nas.files import file_sha256
from nas.results.run_folder import RunFolder
from nas.results.selection import find_record
from nas.runtimes.base import Runtime

Floats = npt.NDArray[np.float32]

VOTES = "votes"
TEACHER_RUNTIME = "onnxruntime"
SCALING_PROBE_IMAGES = 512
"""Training images on which the scalings of the pixels are compared."""


@dataclass(frozen=True, kw_only=True)
class TeacherSource:
    """A teacher that exists and fits the data.

    Attributes:
        name: the file's name, or `votes`.
        weight: share among all teachers, 0..1.
        sha256: digest of the file, or of the votes.
        class_columns: index of the teacher's output for each class of the data.
        onnx_teacher: the ONNX file; None if the outputs are an array.
        outputs: the array [N, outputs]; None if an ONNX file computes them.
        pixel_scaling: the scaling that the file expects, a key of `PIXEL_SCALINGS`.
        notes: warnings for the user, one sentence each.
    """

    name: str
    weight: float
    sha256: str
    class_columns: tuple[int, ...]
    onnx_teacher: OnnxTeacher | None = None
    outputs: Floats | None = None
    pixel_scaling: str = RAW_PIXELS
    notes: tuple[str, ...] = ()


def find_teachers(specs: Sequence[str], data: FaceData) -> tuple[TeacherSource, ...]:
    """The teachers with these specifications, with weights that sum to 1.

    Args:
        specs: values of `--teacher`, each as in the module's docstring.
        data: the data set to check them against.

    Raises:
        ConfigError: a teacher is missing, cannot be read, has other classes, or has outputs for other images.
    """
    pairs = [parse_weight(spec) for spec in specs]
    total = sum(weight for _, weight in pairs)
    return tuple(replace(_load_source(spec, data), weight=weight / total) for spec, weight in pairs)


def parse_weight(spec: str) -> tuple[str, float]:
    """PATH=WEIGHT as path and weight; the weight is 1 if it is absent.

    Raises:
        ConfigError: the path is empty, or the weight is not positive and finite.
    """
    path, _, text = spec.rpartition("=")
    try:
        weight = float(text)
    except ValueError:
        return spec, 1.0
    if not path:
        raise ConfigError(f"teacher must be PATH or PATH=WEIGHT, but got {spec!r}; give the path first")
    if not 0 < weight < float("inf"):
        raise ConfigError(f"a teacher's weight must be positive, but got {weight:g} for {path}; leave that teacher out")
    return path, weight


def _load_source(spec: str, data: FaceData) -> TeacherSource:
    if spec == VOTES:
        return _votes_source(data)
    path = _resolve_path(spec)
    if path.suffix in (".npy", ".npz"):
        return _array_source(path, data)
    if path.suffix != ".onnx":
        raise ConfigError(
            f"a teacher must be an .onnx, .npy or .npz file, a run or the word {VOTES}, but got {path}; export the "
            "checkpoint to ONNX, or save its logits for the training images with numpy.save"
        )
    return _onnx_source(path, data)


def _resolve_path(spec: str) -> Path:
    """The file of a specification: a run's or an exported model's file, or the path itself."""
    path = Path(spec)
    if path.is_file():
        return path
    if (path / "model.onnx").is_file():
        return path / "model.onnx"
    if (path / "config.toml").is_file():
        return _model_of_run(path, None)
    run, _, key = spec.rpartition(":")
    if run and (Path(run) / "config.toml").is_file():
        return _model_of_run(Path(run), key)
    raise ConfigError(
        f"teacher {spec!r} must be a file, a run folder, RUN:KEY, the folder of an exported model or the word {VOTES}, "
        "but nothing of this name exists; check the path"
    )


def _model_of_run(path: Path, key: str | None) -> Path:
    records = RunFolder.open_existing(path).records()
    if key is not None:
        record = find_record(records, key)
    else:
        finished = [r for r in records if r.score is not None and (path / r.model).is_file()]
        if not finished:
            raise ConfigError(f"{path} must hold a finished candidate to be a teacher, but has none; resume the run")
        record = max(finished, key=lambda r: r.objective("accuracy") or 0.0)
    if not record.model or not (path / record.model).is_file():
        raise ConfigError(
            f"trial {record.trial} of {path} must have an ONNX file to be a teacher, but has none; name another "
            "candidate of the run"
        )
    return path / record.model


def _votes_source(data: FaceData) -> TeacherSource:
    votes = data.train.soft_labels
    if votes is None:
        raise ConfigError(
            f"teacher {VOTES} needs annotators' votes with the data, but {data.name} has none; for FER2013 use "
            "--data-option labels=ferplus"
        )
    sha256 = hashlib.sha256(np.ascontiguousarray(votes).data).hexdigest()
    return TeacherSource(
        name=VOTES, weight=1.0, sha256=sha256, class_columns=tuple(range(votes.shape[1])), outputs=votes
    )


def _array_source(path: Path, data: FaceData) -> TeacherSource:
    classes: tuple[str, ...] | None = None
    try:
        stored = np.load(path, allow_pickle=False)
        if isinstance(stored, np.ndarray):
            outputs = stored
        else:
            outputs, classes = stored["answers"], tuple(map(str, stored["labels"]))
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise ConfigError(
            f"{path} must be an array, or .npz with `answers` and `labels`, but is not: {error}; save it with "
            "numpy.save or numpy.savez"
        ) from None
    if outputs.ndim != 2 or len(outputs) != len(data.train) or not np.isfinite(outputs).all():
        raise ConfigError(
            f"{path} must hold a finite row for each of the {len(data.train)} training images of {data.name}, but has "
            f"shape {list(outputs.shape)}; save the logits for all of them, in order"
        )
    columns, notes = match_classes(path.name, classes, outputs.shape[1], data.classes)
    return TeacherSource(
        name=path.name, weight=1.0, sha256=file_sha256(path), class_columns=columns,
        outputs=outputs.astype(np.float32), notes=notes,
    )  # fmt: skip


def _onnx_source(path: Path, data: FaceData) -> TeacherSource:
    teacher = OnnxTeacher(path=path, image_shape=data.input_shape)
    runtime: Runtime = registry.load("runtime", TEACHER_RUNTIME)
    n_outputs = run_teacher(teacher, data.train.images[:2], runtime=runtime).shape[1]
    columns, notes = match_classes(path.name, teacher.classes, n_outputs, data.classes)
    digest = teacher.metadata.get("dataset_digest")
    if digest is not None and digest != data.digest:
        notes += (f"{path.name} was trained on other data, which must not contain this data's val and test images",)
    scaling = RAW_PIXELS if teacher.is_own_export else _best_pixel_scaling(teacher, columns, data, runtime)
    if scaling != RAW_PIXELS:
        notes += (f"{path.name} gets pixels scaled to {scaling}, the scaling of its highest accuracy",)
    return TeacherSource(
        name=path.name,
        weight=1.0,
        sha256=file_sha256(path),
        class_columns=columns,
        onnx_teacher=teacher,
        pixel_scaling=scaling,
        notes=notes,
    )


def _best_pixel_scaling(teacher: OnnxTeacher, columns: tuple[int, ...], data: FaceData, runtime: Runtime) -> str:
    """The scaling with the highest accuracy on some training images; raw pixels win a tie."""
    rows = data.train.evenly_spread_rows(SCALING_PROBE_IMAGES)
    images, labels = data.train.images[rows], data.train.labels[rows]

    def accuracy(scaling: str) -> float:
        logits = run_teacher(teacher, images, runtime=runtime, pixel_scaling=scaling)[:, columns]
        return float((logits.argmax(1) == labels).mean())

    return max(PIXEL_SCALINGS, key=accuracy)


def match_classes(
    name: str, teacher_classes: tuple[str, ...] | None, n_outputs: int, data_classes: tuple[str, ...]
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Index of a teacher's output for each class of the data, and notes for the user.

    Args:
        name: of the teacher, for messages.
        teacher_classes: class names in the order of the outputs; None if the teacher does not name them.
        n_outputs: number of outputs.
        data_classes: class names of the data.

    Raises:
        ConfigError: the teacher lacks a class of the data, or names no classes and has another number of outputs.
    """
    needed = f"teacher {name} must have the classes {', '.join(data_classes)}"
    if teacher_classes is None:
        if n_outputs != len(data_classes):
            raise ConfigError(
                f"{needed}, but has {n_outputs} outputs without names; use a teacher trained on these classes"
            )
        return tuple(range(n_outputs)), (f"{name} does not name its classes; they are taken in the order of the data",)
    known = [canonical_class_name(word) for word in teacher_classes]
    missing = [word for word in data_classes if canonical_class_name(word) not in known]
    if missing or len(known) != n_outputs:
        fault = f"lacks {', '.join(missing)}" if missing else f"names {len(known)} classes for {n_outputs} outputs"
        raise ConfigError(f"{needed}, but {fault}; use a teacher trained on these classes")
    extra = [word for word in known if word not in map(canonical_class_name, data_classes)]
    notes = (f"{name} also has {', '.join(extra)}; its outputs for them are dropped",) if extra else ()
    return tuple(known.index(canonical_class_name(word)) for word in data_classes), notes
