"""Teacher sources: specifications of the command line, resolved to files and checked against the data.

A teacher is one of:
- an ONNX file;
- a run folder (its most accurate file), or RUN:KEY for one of its candidates;
- the folder of an exported model;
- an array .npy [N, K] of logits or probabilities for the training images in order, or .npz with the arrays `answers`
  and `labels`;
- the word `votes`: the annotators' votes that come with a data set. Votes of other annotators than the labels' are
  calibrated to the labels (`nas.distillation.vote_calibration`); shares that the labels are the majority of stay.

PATH=WEIGHT gives a teacher a weight. Without one `votes` weigh as much as all other teachers together. Classes are
matched by name if the teacher or `--teacher-classes` names them; otherwise the orders of published data sets are
compared on training images (`nas.distillation.class_orders`). Outputs for classes that the data does not have are
dropped. A source that does not fit is refused before a run starts.
"""

import hashlib
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nas import registry
from nas.data.base import FaceData
from nas.data.classes import canonical_class_name
from nas.data.quality_check import pixel_digests
from nas.distillation.class_orders import (
    best_columns,
    candidate_orders,
    choose_order,
    contradiction_notes,
    fit_orders,
    order_accuracy,
)
from nas.distillation.onnx_teacher import PIXEL_SCALINGS, RAW_PIXELS, Images, OnnxTeacher, run_teacher
from nas.distillation.vote_calibration import calibrate_votes
from nas.errors import ConfigError, one_line
from nas.files import file_sha256, regular_file_fault
from nas.results.run_folder import RunFolder
from nas.results.selection import find_record
from nas.runtimes.base import Runtime

Floats = npt.NDArray[np.float32]

VOTES = "votes"
SELF = "self"
"""Word for the most accurate member of the front, which is trained first and teaches the others."""
TEACHER_RUNTIME = "onnxruntime"
PROBE_IMAGES = 512
"""Training images on which scalings of the pixels and orders of the classes are compared."""
_PLACEHOLDER_PATTERN = re.compile(r"(label|class|output)?[ _-]?[0-9]+")
MAX_OUTPUTS = 4096
"""Outputs of an array, more than any list of classes has."""


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
        is_calibrated: whether the outputs are calibrated votes, which are multiplied with the other teachers' average.
        notes: warnings for the user, one sentence each.
    """

    name: str
    weight: float
    sha256: str
    class_columns: tuple[int, ...]
    onnx_teacher: OnnxTeacher | None = None
    outputs: Floats | None = None
    pixel_scaling: str = RAW_PIXELS
    is_calibrated: bool = False
    notes: tuple[str, ...] = ()


def find_teachers(
    specs: Sequence[str], data: FaceData, *, classes: Sequence[str] = (), output_name: str | None = None
) -> tuple[TeacherSource, ...]:
    """The teachers with these specifications, with weights that sum to 1.

    Args:
        specs: values of `--teacher`, each as in the module's docstring.
        data: the data set to check them against.
        classes: class names, in the order of the outputs, of teachers that do not name the data's classes themselves.
        output_name: output of the ONNX teachers that have several; None takes the one that fits.

    Raises:
        ConfigError: a teacher is missing, cannot be read, has other classes, or has outputs for other images.
    """
    if not specs and (classes or output_name):
        option = "--teacher-classes" if classes else "--teacher-output"
        raise ConfigError(f"{option} requires a teacher, but none is given; add --teacher")
    pairs = [parse_weight(spec) for spec in specs]
    if (n_votes := sum(path == VOTES for path, _ in pairs)) > 1:
        raise ConfigError(
            f"teacher {VOTES} must be named once, but is named {n_votes} times; give it a weight, as in {VOTES}=2"
        )
    others = sum(weight for spec, (_, weight) in zip(specs, pairs, strict=True) if spec != VOTES)
    weights = [others if spec == VOTES and others else weight for spec, (_, weight) in zip(specs, pairs, strict=True)]
    sources = [_load_source(spec, data, tuple(classes), output_name) for spec, _ in pairs]
    return tuple(replace(source, weight=w / sum(weights)) for source, w in zip(sources, weights, strict=True))


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


def _load_source(spec: str, data: FaceData, classes: tuple[str, ...], output_name: str | None) -> TeacherSource:
    if spec == VOTES:
        return _votes_source(data)
    path = _resolve_path(spec)
    if path.suffix in (".npy", ".npz"):
        return _array_source(path, data, classes)
    if path.suffix != ".onnx":
        raise ConfigError(
            f"a teacher must be an .onnx, .npy or .npz file, a run or the word {VOTES}, but got {path}; export the "
            "checkpoint to ONNX, or save its logits for the training images with numpy.save"
        )
    return _onnx_source(path, data, classes, output_name)


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
    fault = "nothing of this name exists"
    if path.exists() and not path.is_dir():
        fault = f"it {regular_file_fault(path)}"
    raise ConfigError(
        f"teacher {spec!r} must be a file, a run folder, RUN:KEY, the folder of an exported model or the word {VOTES}, "
        f"but {fault}; check the path"
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
    if data.train.votes is not None:
        return _calibrated_votes_source(data, data.train.votes)
    votes = data.train.soft_labels
    if votes is None:
        raise ConfigError(
            f"teacher {VOTES} needs annotators' votes with the data, but {data.name} has none; for FER2013 use "
            "--data-option ferplus=PATH of fer2013new.csv, for FER+ --data-option labels=ferplus"
        )
    sha256 = hashlib.sha256(np.ascontiguousarray(votes).data).hexdigest()
    return TeacherSource(
        name=VOTES, weight=1.0, sha256=sha256, class_columns=tuple(range(votes.shape[1])), outputs=votes
    )


def _calibrated_votes_source(data: FaceData, votes: Floats) -> TeacherSource:
    groups = np.unique(pixel_digests(data.train.images), return_inverse=True)[1]
    named = [canonical_class_name(word) for word in data.vote_classes]
    columns = [named.index(name) if (name := canonical_class_name(c)) in named else -1 for c in data.classes]
    calibrated = calibrate_votes(votes, data.train.labels, groups, class_columns=tuple(columns))
    # The digest is of what the targets follow from: the targets themselves differ in the last bit between machines.
    digest = hashlib.sha256(np.ascontiguousarray(votes).data)
    digest.update(np.ascontiguousarray(data.train.labels).data)
    note = (
        f"{VOTES} are calibrated to the labels: {calibrated.log_loss_before:.3f} nats of log-loss before, "
        f"{calibrated.log_loss_after:.3f} after, on held-out folds of the training images"
    )
    return TeacherSource(
        name=VOTES, weight=1.0, sha256=digest.hexdigest(), class_columns=tuple(range(len(data.classes))),
        outputs=calibrated.probabilities, is_calibrated=True, notes=(note,),
    )  # fmt: skip


def _array_source(path: Path, data: FaceData, given_classes: tuple[str, ...]) -> TeacherSource:
    stored, classes = _read_array(path, data)
    with np.errstate(over="ignore"):  # values beyond float32 become infinite, which is refused
        outputs = stored.astype(np.float32)
    if not np.isfinite(outputs).all():
        raise ConfigError(
            f"{path} must hold a finite row for each of the {len(data.train)} training images of {data.name}, but has "
            "NaN, infinity or values beyond float32; save the logits again"
        )
    names = _class_names(classes, given_classes, data.classes)
    columns, notes = _columns(path.name, names, outputs, data.train.labels, data.classes)
    return TeacherSource(
        name=path.name, weight=1.0, sha256=file_sha256(path), class_columns=columns, outputs=outputs, notes=notes
    )


def _read_array(path: Path, data: FaceData) -> tuple[npt.NDArray[Any], tuple[str, ...] | None]:
    """Numbers [N, outputs] of a file and the class names that it holds. The shape is checked before anything is read.

    Raises:
        ConfigError: the file is no array of real numbers with a row for each training image.
    """
    classes: tuple[str, ...] | None = None
    try:
        if path.stat().st_size == 0:
            raise ValueError("it is empty (0 bytes)")
        if path.suffix == ".npy":
            array = np.lib.format.open_memmap(path, mode="r")
        else:
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > (limit := 16 * len(data.train) * MAX_OUTPUTS + 2**20):
                raise ValueError(f"it unpacks to {unpacked} bytes, more than {limit}")
            with np.load(path, allow_pickle=False) as stored:
                array, labels = stored["answers"], stored["labels"]
            if labels.ndim != 1 or labels.dtype.kind != "U":
                raise ValueError(f"`labels` must be a list of words, but is {labels.dtype} {list(labels.shape)}")
            classes = tuple(map(str, labels))
    except Exception as error:  # numpy's and zip's errors share no base
        raise ConfigError(
            f"{path} must be an array, or .npz with `answers` and `labels`, but is not: {one_line(error)}; save it "
            "with numpy.save or numpy.savez"
        ) from None
    if array.dtype.kind not in "fiu":
        raise ConfigError(
            f"{path} must hold real numbers, but holds {array.dtype}; save the logits as float32 with numpy.save"
        )
    kept = data.train_rows
    if array.ndim == 2 and kept is not None and len(array) != len(data.train) and len(array) > kept[-1]:
        return _checked_rows(path, np.asarray(array)[kept], data), classes  # rows for all images of the source
    return _checked_rows(path, array, data), classes


def _checked_rows(path: Path, array: npt.NDArray[Any], data: FaceData) -> npt.NDArray[Any]:
    if array.ndim != 2 or len(array) != len(data.train) or not 2 <= array.shape[1] <= MAX_OUTPUTS:
        raise ConfigError(
            f"{path} must hold a finite row for each of the {len(data.train)} training images of {data.name}, but has "
            f"shape {list(array.shape)}; save the logits for all of them, in order"
        )
    return array


def _onnx_source(path: Path, data: FaceData, given_classes: tuple[str, ...], output_name: str | None) -> TeacherSource:
    teacher = OnnxTeacher(path=path, image_shape=data.input_shape)
    teacher.check_runs()
    runtime: Runtime = registry.load("runtime", TEACHER_RUNTIME)
    rows = data.train.evenly_spread_rows(PROBE_IMAGES)
    images, labels = data.train.images[rows], data.train.labels[rows]
    names = _class_names(teacher.classes, given_classes, data.classes)
    teacher = _with_output(teacher, names, images[:2], data, output_name, runtime)
    scalings = [RAW_PIXELS] if teacher.is_own_export else list(PIXEL_SCALINGS)
    outputs = {s: run_teacher(teacher, images, runtime=runtime, pixel_scaling=s) for s in scalings}

    def accuracy(scaling: str) -> float:
        """Of the teacher, in its best order where it names no classes."""
        n_outputs = outputs[scaling].shape[1]
        if names is not None:
            columns = match_classes(path.name, names, n_outputs, data.classes)[0]
            return float((outputs[scaling][:, columns].argmax(1) == labels).mean())
        orders = _candidate_orders(path.name, n_outputs, data.classes)
        best = best_columns(outputs[scaling], labels, len(data.classes))
        fit = fit_orders(outputs[scaling], labels, orders)[0].accuracy
        return max(fit, order_accuracy(outputs[scaling], labels, best) if best else 0.0)

    scaling = max(scalings, key=accuracy)  # raw pixels win a tie
    columns, notes = _columns(path.name, names, outputs[scaling], labels, data.classes)
    if teacher.output_name is not None:
        notes += (f"{path.name} has several outputs, of which {teacher.output_name} is taken",)
    digest = teacher.metadata.get("dataset_digest")
    if digest is not None and digest != data.digest:
        notes += (f"{path.name} was trained on other data, which must not contain this data's val and test images",)
    if scaling != RAW_PIXELS:
        notes += (f"{path.name} gets pixels scaled to {scaling}, the scaling of its highest accuracy",)
    return TeacherSource(
        name=path.name,
        weight=1.0,
        sha256=teacher.sha256,
        class_columns=columns,
        onnx_teacher=teacher,
        pixel_scaling=scaling,
        notes=notes,
    )


def _with_output(
    teacher: OnnxTeacher, names: tuple[str, ...] | None, images: Images, data: FaceData, output_name: str | None,
    runtime: Runtime,
) -> OnnxTeacher:  # fmt: skip
    """The teacher with the output that holds its logits: the one of that name, or the first of a fitting size.

    Raises:
        ConfigError: there is no output of that name, or none of a fitting size.
    """
    available = teacher.output_names
    if output_name is not None:
        if output_name not in available:
            raise ConfigError(
                f"--teacher-output must be an output of {teacher.path}, one of {', '.join(available)}, but got "
                f"{output_name!r}"
            )
        return replace(teacher, output_name=output_name) if len(available) > 1 else teacher
    if len(available) == 1:
        return teacher
    sizes = {name: run_teacher(teacher, images, runtime=runtime, output_names=[name]).shape[1] for name in available}
    for name, size in sizes.items():
        if size == len(names) if names is not None else candidate_orders(size, data.classes):
            return replace(teacher, output_name=name)
    listed = ", ".join(f"{name} with {size} numbers" for name, size in sizes.items())
    raise ConfigError(
        f"teacher {teacher.path} must have an output with a number for each class, but has {listed}; name the output "
        "with --teacher-output, and its classes with --teacher-classes"
    )


def _columns(
    name: str, classes: tuple[str, ...] | None, outputs: Floats, labels: npt.NDArray[np.int64],
    data_classes: tuple[str, ...],
) -> tuple[tuple[int, ...], tuple[str, ...]]:  # fmt: skip
    """Index of the output for each class of the data, and notes: by the classes' names, or by the order that fits.

    Raises:
        ConfigError: the names do not fit, or no known order does.
    """
    if classes is not None:
        columns, notes = match_classes(name, classes, outputs.shape[1], data_classes)
        return columns, notes + contradiction_notes(name, outputs, labels, columns)
    orders = _candidate_orders(name, outputs.shape[1], data_classes)
    fit, figures = choose_order(outputs, labels, orders)
    if fit is None:
        raise ConfigError(
            f"teacher {name} must name its classes or have them in a known order, but does neither ({figures}); give "
            "them in the order of its outputs with --teacher-classes a,b,c"
        )
    return fit.columns, (f"{name} does not name its classes; they are taken in the order of {fit.name} ({figures})",)


def _candidate_orders(name: str, n_outputs: int, data_classes: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    orders = candidate_orders(n_outputs, data_classes)
    if not orders:
        raise ConfigError(
            f"teacher {name} must have the classes {', '.join(data_classes)}, but has {n_outputs} outputs without "
            "names; name them with --teacher-classes a,b,c, or use a teacher trained on these classes"
        )
    return orders


def _class_names(
    own: tuple[str, ...] | None, given: tuple[str, ...], data_classes: tuple[str, ...]
) -> tuple[str, ...] | None:
    """A teacher's own class names if they are those of the data, else the given ones; None where the order must tell.

    Numbers and words such as LABEL_0 say nothing.
    """
    needed = {canonical_class_name(word) for word in data_classes}
    named = {canonical_class_name(word) for word in own or ()}
    if needed <= named:
        return own
    return given or (None if all(_PLACEHOLDER_PATTERN.fullmatch(word) for word in named) else own)


def match_classes(
    name: str, teacher_classes: tuple[str, ...], n_outputs: int, data_classes: tuple[str, ...]
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Index of a teacher's output for each class of the data, and notes for the user.

    Args:
        name: of the teacher, for messages.
        teacher_classes: class names in the order of the outputs.
        n_outputs: number of outputs.
        data_classes: class names of the data.

    Raises:
        ConfigError: the teacher lacks a class of the data, names one twice, or has another number of outputs.
    """
    needed = f"teacher {name} must have the classes {', '.join(data_classes)}"
    known = [canonical_class_name(word) for word in teacher_classes]
    missing = [word for word in data_classes if canonical_class_name(word) not in known]
    if missing or len(known) != n_outputs or len(set(known)) != len(known):
        fault = f"names {len(known)} classes for {n_outputs} outputs"
        if missing or len(known) == n_outputs:
            fault = f"lacks {', '.join(missing)}" if missing else f"names a class twice: {', '.join(known)}"
        raise ConfigError(
            f"{needed}, but {fault}; use a teacher trained on these classes, or name its outputs in order with "
            "--teacher-classes a,b,c"
        )
    extra = [word for word in known if word not in map(canonical_class_name, data_classes)]
    notes = (f"{name} also has {', '.join(extra)}; its outputs for them are dropped",) if extra else ()
    return tuple(known.index(canonical_class_name(word)) for word in data_classes), notes
