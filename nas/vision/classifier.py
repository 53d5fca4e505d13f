"""Classifier of face crops: an ONNX file with its class names, pixel range and kind of output.

The file is read and run as an ONNX teacher is (`nas.distillation.onnx_teacher`). What it does not say about itself must
be given: a wrong range of pixels or order of classes gives wrong labels without an error.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from nas import registry
from nas.data.base import Images
from nas.data.classes import canonical_class_name
from nas.distillation.onnx_teacher import RAW_PIXELS, OnnxTeacher, run_teacher, teacher_session
from nas.errors import ConfigError
from nas.files import regular_file_fault
from nas.runtimes.base import Runtime

Floats = npt.NDArray[np.float32]

RUNTIME = "onnxruntime"
PIXEL_RANGES = {
    "0..255": RAW_PIXELS, "0..1": "0..1", "-1..1": "-1..1", "imagenet": "ImageNet mean and deviation",
}  # fmt: skip
"""Words of the command line for the keys of `nas.distillation.onnx_teacher.PIXEL_SCALINGS`."""
DEFAULT_SHAPE = (1, 48, 48)
"""Taken for the dimensions that a file leaves open: FER2013's."""
_SUM_TOLERANCE = 1e-3


class FaceClassifier:
    """One open model.

    Life: `FaceClassifier(path, ...)` reads and checks the file and opens it; `probabilities` any number of times;
    `close`, or the end of a `with` block.

    Attributes:
        path: the ONNX file.
        classes: class names, in the order of the probabilities; expressions by their canonical names.
        input_shape: (C, H, W) of a crop; of the network inside a file that takes another colour or any size.
        dataset: what it was trained on, by its metadata; None if it does not say.
        notes: what the user should know, one sentence each.
    """

    def __init__(
        self, path: Path, *, classes: Sequence[str] = (), pixel_range: str | None = None, threads: int = 1
    ) -> None:
        """Open a model.

        Args:
            path: an ONNX file with one image input.
            classes: class names in the order of the outputs, for files that do not name them.
            pixel_range: a key of `PIXEL_RANGES`, for files of other programs.
            threads: of the runtime.

        Raises:
            ConfigError: the file is missing, no ONNX file or no image classifier, or it does not run; its classes or
                its pixel range are not known; or names and outputs differ in number.
        """
        if (fault := regular_file_fault(path)) is not None:
            raise ConfigError(f"model {path} {fault}; give the path of an ONNX file")
        self.path, self.notes = path, tuple[str, ...]()
        self._open_files = ExitStack()
        runtime: Runtime = registry.load("runtime", RUNTIME)
        try:
            teacher = OnnxTeacher(path=path, image_shape=DEFAULT_SHAPE)
            teacher.check_runs()
            if (form := teacher.stated_form) is not None:
                teacher = replace(teacher, image_shape=form.network)  # the size of a file that takes any
            # Crops are made for the network: grey ones repeated to RGB have themselves as luma.
            self.input_shape = form.network if form is not None else teacher.input_shape
            self.dataset = teacher.metadata.get("dataset")
            scaling = self._pixel_scaling(teacher, pixel_range)
            self.classes = self._class_names(teacher, classes)
            teacher = _with_output(teacher, len(self.classes), runtime)
            session = teacher_session(teacher, runtime=runtime, pixel_scaling=scaling, threads=threads)
            self._run = self._open_files.enter_context(session)
            self._needs_softmax = self._gives_logits()
        except ConfigError as error:
            self.close()
            raise ConfigError(_as_model_error(error)) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def probabilities(self, crops: Images) -> Floats:
        """Class probabilities [N, K] of crops [N, C, H, W]; the rows sum to 1.

        Raises:
            ConfigError: the file does not take the crops, or its outputs are not finite.
        """
        if not len(crops):
            return np.zeros((0, len(self.classes)), np.float32)
        try:
            rows = self._run(crops)
        except ConfigError as error:
            raise ConfigError(_as_model_error(error)) from None
        return _softmax(rows) if self._needs_softmax else rows

    def close(self) -> None:
        """Release the file."""
        self._open_files.close()

    def _pixel_scaling(self, teacher: OnnxTeacher, pixel_range: str | None) -> str:
        if pixel_range is not None and pixel_range not in PIXEL_RANGES:
            raise ConfigError(f"--pixels must be one of {', '.join(PIXEL_RANGES)}, but got {pixel_range!r}")
        if teacher.is_own_export:
            if pixel_range not in (None, RAW_PIXELS):
                raise ConfigError(
                    f"{self.path} takes pixels 0..255, as every file of this package, but --pixels says {pixel_range}; "
                    "leave it out"
                )
            return RAW_PIXELS
        if pixel_range is None:
            raise ConfigError(
                f"model {self.path} is of another program and does not say which range of pixels it takes; give "
                f"--pixels, one of {', '.join(PIXEL_RANGES)}"
            )
        return PIXEL_RANGES[pixel_range]

    def _class_names(self, teacher: OnnxTeacher, given: Sequence[str]) -> tuple[str, ...]:
        own = teacher.classes
        if not given and own is None:
            raise ConfigError(
                f"model {self.path} does not name its classes; give them with --classes a,b,c in the order of its "
                "outputs"
            )
        names = tuple(canonical_class_name(word) for word in (given or own or ()))
        if len(set(names)) != len(names) or len(names) < 2 or not all(names):
            raise ConfigError(
                f"the classes of {self.path} must be two or more different names, but are {', '.join(names)}; give "
                "them with --classes a,b,c in the order of its outputs"
            )
        if given and own is not None and names != tuple(map(canonical_class_name, own)):
            self.notes += (f"the classes are {', '.join(names)} as given; the file's own names are {', '.join(own)}",)
        return names

    def _gives_logits(self) -> bool:
        """Whether the outputs need a softmax: on black, grey and noise they are no probabilities.

        Raises:
            ConfigError: there is another number of outputs than of classes.
        """
        noise = np.random.default_rng(0).integers(0, 256, self.input_shape)
        probes = np.stack([np.zeros(self.input_shape), np.full(self.input_shape, 128), noise]).astype(np.uint8)
        rows = self._run(probes)
        if rows.shape[1] != len(self.classes):
            raise ConfigError(
                f"model {self.path} must have one output for each of the {len(self.classes)} classes "
                f"{', '.join(self.classes)}, but has {rows.shape[1]}; give the names with --classes a,b,c"
            )
        are_probabilities = rows.min() >= 0 and np.abs(rows.sum(1) - 1).max() < _SUM_TOLERANCE
        if not are_probabilities:
            self.notes += (f"the outputs of {self.path.name} are no probabilities, so a softmax follows",)
        return not are_probabilities


def _with_output(teacher: OnnxTeacher, n_classes: int, runtime: Runtime) -> OnnxTeacher:
    """The teacher with the first of several outputs that has a number for each class; the first one if none has."""
    if len(teacher.output_names) == 1:
        return teacher
    probe = np.zeros((1, *teacher.input_shape), np.uint8)
    for name in teacher.output_names:
        if run_teacher(teacher, probe, runtime=runtime, output_names=[name]).shape[1] == n_classes:
            return replace(teacher, output_name=name)
    return teacher


def _softmax(rows: Floats) -> Floats:
    powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _as_model_error(error: ConfigError) -> str:
    """What is said about a teacher, said about the model; the advice for teachers is replaced."""
    text = str(error)
    if text.startswith("teacher "):
        text = f"model {text.removeprefix('teacher ')}"
    fault, _, advice = text.rpartition("; ")
    if fault and ("teacher" in advice or "logits" in advice):
        return f"{fault}; use an ONNX classifier that takes single images and runs in ONNX Runtime"
    return text
