"""Teachers by their words: found, checked against the data, and refused in one line before anything starts.

A teacher is an ONNX file; a run folder (its most accurate file) or RUN:KEY for one candidate of it; the folder of an
exported model; an array .npy [N, K] of logits or probabilities for the training images in order, or .npz with `answers`
and `labels`; or the word `votes`: the annotators' shares that come with a data set. PATH=WEIGHT gives it a weight.

Classes are matched by name where the teacher says them. One that knows more classes is asked for ours only.
"""

import hashlib
import logging
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
from nas.results.run_folder import RunFolder
from nas.results.selection import find_record
from nas.runtimes.base import Runtime

logger = logging.getLogger(__name__)
Floats = npt.NDArray[np.float32]

VOTES = "votes"
TEACHER_RUNTIME = "onnxruntime"
SCALING_PROBE_IMAGES = 512
"""Training images that show which scaling of the pixels a file wants."""


@dataclass(frozen=True, kw_only=True)
class TeacherSource:
    """A teacher that was found and fits the data.

    Attributes:
        name: as a person knows it: the file's name, or `votes`.
        weight: its share among all, 0..1.
        sha256: of what it says: the file's, or the votes'.
        columns: which of its outputs stands for each of our classes.
        file: the ONNX file; None where the answers are an array.
        answers: the array [N, outputs]; None where a file gives them.
        pixels: the scaling that the file wants.
        notes: what a reader has to know, one sentence each.
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
    """The teachers of these words, with weights that sum to 1.

    Raises:
        ConfigError: one is missing, cannot be read, knows other classes, or answers for other images.
    """
    pairs = [parse_weight(word) for word in specs]
    total = sum(weight for _, weight in pairs)
    return tuple(replace(_load_source(word, data), weight=weight / total) for word, weight in pairs)


def parse_weight(spec: str) -> tuple[str, float]:
    """PATH=WEIGHT as path and weight; 1 without a weight.

    Raises:
        ConfigError: the weight is not positive.
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
            f"a teacher must be an .onnx, .npy or .npz file, a run or the word {VOTES}, but got {path}; give the ONNX "
            "file of a checkpoint, or save its answers to the training images with numpy.save"
        )
    return _onnx_source(path, data)


def _resolve_path(spec: str) -> Path:
    """The file that a word stands for: of a run, of an exported model, or the path itself."""
    path = Path(spec)
    if path.is_file():
        return path
    if (path / "model.onnx").is_file():
        return path / "model.onnx"
    if (path / "config.toml").is_file():
        return _model_of_run(path, None)
    run, _, which = spec.rpartition(":")
    if run and (Path(run) / "config.toml").is_file():
        return _model_of_run(Path(run), which)
    raise ConfigError(
        f"teacher {spec!r} must be a file, a run folder, RUN:KEY, the folder of an exported model or the word {VOTES}, "
        "but there is none of it; check the path"
    )


def _model_of_run(path: Path, key: str | None) -> Path:
    records = RunFolder.open_existing(path).records()
    if key is not None:
        record = find_record(records, key)
    else:
        held = [r for r in records if r.score is not None and (path / r.model).is_file()]
        if not held:
            raise ConfigError(f"{path} must hold a finished candidate to be a teacher, but has none; let it go on")
        record = max(held, key=lambda r: r.objective("accuracy") or 0.0)
    if not record.model or not (path / record.model).is_file():
        raise ConfigError(
            f"trial {record.trial} of {path} must have a file to be a teacher, but has none; take another"
        )
    return path / record.model


def _votes_source(data: FaceData) -> TeacherSource:
    votes = data.train.soft_labels
    if votes is None:
        raise ConfigError(
            f"teacher {VOTES} needs annotators' votes with the data, but {data.name} has none; FER2013 gets them by "
            "--data-option labels=ferplus"
        )
    sha256 = hashlib.sha256(np.ascontiguousarray(votes).data).hexdigest()
    return TeacherSource(
        name=VOTES, weight=1.0, sha256=sha256, class_columns=tuple(range(votes.shape[1])), outputs=votes
    )


def _array_source(path: Path, data: FaceData) -> TeacherSource:
    classes: tuple[str, ...] | None = None
    try:
        held = np.load(path, allow_pickle=False)
        if isinstance(held, np.ndarray):
            answers = held
        else:
            answers, classes = held["answers"], tuple(map(str, held["labels"]))
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise ConfigError(
            f"{path} must be an array, or .npz with `answers` and `labels`, but is not: {error}"
        ) from None
    if answers.ndim != 2 or len(answers) != len(data.train) or not np.isfinite(answers).all():
        raise ConfigError(
            f"{path} must hold a finite row for each of the {len(data.train)} training images of {data.name}, but has "
            f"shape {list(answers.shape)}; save the answers to all of them, in order"
        )
    columns, notes = match_classes(path.name, classes, answers.shape[1], data.classes)
    return TeacherSource(
        name=path.name, weight=1.0, sha256=_sha256(path), class_columns=columns, outputs=answers.astype(np.float32),
        notes=notes,
    )  # fmt: skip


def _onnx_source(path: Path, data: FaceData) -> TeacherSource:
    file = OnnxTeacher(path=path, image_shape=data.input_shape)
    runtime: Runtime = registry.load("runtime", TEACHER_RUNTIME)
    outputs = run_teacher(file, data.train.images[:2], runtime=runtime).shape[1]
    columns, notes = match_classes(path.name, file.classes, outputs, data.classes)
    digest = file.metadata.get("dataset_digest")
    if digest is not None and digest != data.digest:
        notes += (f"{path.name} learned from other data; it must not have seen the validation and test faces of this",)
    pixels = RAW_PIXELS if file.is_own_export else _best_pixel_scaling(file, columns, data, runtime)
    if pixels != RAW_PIXELS:
        notes += (f"{path.name} is fed with pixels scaled to {pixels}, with which it is most often right",)
    return TeacherSource(
        name=path.name,
        weight=1.0,
        sha256=_sha256(path),
        class_columns=columns,
        onnx_teacher=file,
        pixel_scaling=pixels,
        notes=notes,
    )


def _best_pixel_scaling(teacher: OnnxTeacher, columns: tuple[int, ...], data: FaceData, runtime: Runtime) -> str:
    """The scaling of pixels with which a file is most often right on some training images; raw ones win a tie."""
    rows = np.linspace(0, len(data.train) - 1, min(SCALING_PROBE_IMAGES, len(data.train))).astype(int)
    labels = data.train.labels[rows]

    def right(pixels: str) -> float:
        said = run_teacher(teacher, data.train.images[rows], runtime=runtime, pixel_scaling=pixels)[:, columns]
        return float((said.argmax(1) == labels).mean())

    return max(PIXEL_SCALINGS, key=right)


def match_classes(
    name: str, teacher_classes: tuple[str, ...] | None, n_outputs: int, data_classes: tuple[str, ...]
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Which of a teacher's outputs stands for each of our classes, and what there is to say about it.

    Raises:
        ConfigError: a class of ours is not among the teacher's, or their numbers differ where it says no names.
    """
    if teacher_classes is None:
        if n_outputs != len(data_classes):
            raise ConfigError(
                f"teacher {name} must know the classes {', '.join(data_classes)}, but gives {n_outputs} answers without names; "
                "take a teacher of these classes"
            )
        return tuple(range(n_outputs)), (f"{name} does not name its classes; they are taken in the order of the data",)
    known = [canonical_class_name(word) for word in teacher_classes]
    missing = [word for word in data_classes if canonical_class_name(word) not in known]
    if missing or len(known) != n_outputs:
        lacks = f"lacks {', '.join(missing)}" if missing else f"names {len(known)} for {n_outputs} answers"
        raise ConfigError(
            f"teacher {name} must know the classes {', '.join(data_classes)}, but {lacks}; take a teacher of these classes"
        )
    more = [word for word in known if word not in map(canonical_class_name, data_classes)]
    notes = (f"{name} also knows {', '.join(more)}; it is asked as if they did not exist",) if more else ()
    return tuple(known.index(canonical_class_name(word)) for word in data_classes), notes


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
