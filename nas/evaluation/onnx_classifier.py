"""ONNX classifier from elsewhere on a data set, read and scored as an ONNX teacher is read.

Input size, pixel scaling and order of the classes are found on training images (`nas.distillation.teachers`); the
selection split gives the score alone.
"""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from nas import registry
from nas.data.base import FaceData, Images
from nas.distillation.onnx_teacher import OnnxTeacher, teacher_session
from nas.distillation.teachers import TEACHER_RUNTIME, TeacherSource, find_teachers
from nas.errors import ConfigError
from nas.files import regular_file_fault
from nas.metrics import Floats, Score, score
from nas.runtimes.onnx_input import read_input_shape

LOG_EVERY_S = 2.0
"""Seconds between two lines about the progress."""


def checked_file(path: Path) -> Path:
    """The absolute path of an ONNX file with one image input.

    Raises:
        ConfigError: it is no such file.
    """
    if (fault := regular_file_fault(path)) is not None:
        raise ConfigError(f"baseline {path} {fault}; give the path of an ONNX file")
    if path.suffix != ".onnx":
        raise ConfigError(f"a baseline must be an .onnx file, but got {path}; export the model to ONNX")
    read_input_shape(path)
    return path.absolute()


def file_digest(path: Path) -> str:
    """SHA-256 of an ONNX file, and of the files that hold its weights where it has such.

    Raises:
        ConfigError: it cannot be read.
    """
    return OnnxTeacher(path=path, image_shape=(1, 1, 1)).sha256


def find_classifier(path: Path, data: FaceData) -> TeacherSource:
    """An ONNX file with its pixel scaling and its output for each class of the data.

    Raises:
        ConfigError: the file does not run, has other classes, or has them in an unknown order.
    """
    try:
        (source,) = find_teachers([f"{path}=1"], data)  # with a weight, a name may hold "="
    except ConfigError as error:
        # The advice, which follows the last semicolon, is about teachers and their options.
        fault, _, advice = str(error).rpartition("; ")
        raise ConfigError(f"baseline {(fault or advice).removeprefix('teacher ')}; {_advice(advice)}") from None
    return source


def _advice(advice: str) -> str:
    """What to do with a baseline where a teacher would be told to do this."""
    if "--teacher-classes" in advice:
        return (
            "use a model of these classes, and name them in the order of its outputs in the ONNX metadata property "
            "`labels`, a JSON list"
        )
    return "use an ONNX classifier that takes single images and runs in ONNX Runtime"


def score_classifier(
    source: TeacherSource, data: FaceData, *, threads: int = 1, log: Callable[[str], None] = lambda _: None
) -> Score:
    """The metrics of a file on the selection split.

    Args:
        source: what `find_classifier` returned.
        data: the data set.
        threads: of the runtime.
        log: called with a line every two seconds.

    Raises:
        ConfigError: the file does not take the images, or its outputs are not finite.
    """
    if source.onnx_teacher is None:
        raise ConfigError(f"a baseline must be an ONNX file, but got {source.name}; export it to ONNX")
    columns = np.array(source.class_columns)
    with teacher_session(
        source.onnx_teacher, runtime=registry.load("runtime", TEACHER_RUNTIME), pixel_scaling=source.pixel_scaling,
        threads=threads,
    ) as run:  # fmt: skip
        done, logged_at = 0, time.monotonic()

        def predict(images: Images) -> Floats:
            nonlocal done, logged_at
            rows = run(images)[:, columns]
            done += len(images)
            if time.monotonic() - logged_at > LOG_EVERY_S:
                logged_at = time.monotonic()
                log(f"scored {source.name} on {done:,} of {len(data.val):,} images")
            return rows

        return score(predict, data.val, data.classes)
