"""Contract of a model for post-training work, and the figures of its files."""

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hw_profiles._base import FLOAT16_BITS, FLOAT32_BITS, HardwareProfile
from nas.compression.quantization.calibration import DEFAULT_CALIBRATION
from nas.compression.quantization.node_bits import bit_options
from nas.data.base import FaceData, Images
from nas.errors import CandidateError
from nas.latency.int8_speedup import Int8Speedup, int8_speedup
from nas.latency.latency import Latency
from nas.metrics import Score, score
from nas.post_training.bits import BitsPlan

Predict = Callable[[Images], npt.NDArray[np.float32]]
"""From images [N, C, H, W] to one number for each class of the data [N, K]."""
LogFunction = Callable[[str], None]

CALIBRATION_IMAGES = 256
"""Training images that calibrate a model."""


class PostTrainingModel(ABC):
    """A trained model: its units and layers, and its file in any plan of bit-widths. Its weights never change.

    Life: made once; `given_file` and `write` any number of times; `open` for each file that is scored.

    Attributes:
        name: of the model, for tables and default paths.
        data: the data set.
        profile: of the target.
        units: parts with a bit-width of their own, in order.
        layers: layers that may be named, see `nas.models.layer_patterns.match_layers`.
        timed_shape: shape of one image as its file takes it, without the batch.
        notes: facts that a reader of the figures needs.
    """

    name: str
    data: FaceData
    profile: HardwareProfile
    units: tuple[str, ...]
    layers: Mapping[str, str]
    timed_shape: tuple[int, int, int]
    notes: tuple[str, ...] = ()

    @abstractmethod
    def given_file(self, folder: Path) -> Path:
        """The file of the model as it was given, in FP32; a new one is written to `folder`."""

    @abstractmethod
    def write(self, path: Path, plan: BitsPlan, *, calibration: str, is_draft: bool = False) -> None:
        """Write the model in a plan of bit-widths.

        Args:
            path: the file; it appears whole.
            plan: the bit-widths.
            calibration: method of the activations' ranges.
            is_draft: whether the file is only timed: its ranges need not be right, and nothing is checked.

        Raises:
            CandidateError: the file cannot be written, or a runtime does not compute from it what it says.
        """

    @abstractmethod
    def open(self, path: Path) -> AbstractContextManager[Predict]:
        """A file of this model in ONNX Runtime, as a function from images to a number for each class of the data."""

    @cached_property
    def bit_options(self) -> tuple[int, ...]:
        """Bit-widths to choose from on the target; 32 in place of 16 for a model that FP16 cannot hold."""
        options = bit_options(self.profile)
        if FLOAT16_BITS not in options or not self.float16_fault:
            return options
        return tuple(sorted({*options, FLOAT32_BITS} - {FLOAT16_BITS}))

    @cached_property
    def float16_fault(self) -> str:
        """Why the model cannot be in FP16; empty where it can."""
        plan = BitsPlan(units=dict.fromkeys(self.units, FLOAT16_BITS))
        with tempfile.TemporaryDirectory(prefix="fer-nas-") as folder:
            try:
                self.write(Path(folder) / "float16.onnx", plan, calibration=DEFAULT_CALIBRATION)
            except CandidateError as error:
                return str(error)
        return ""


@dataclass(frozen=True, kw_only=True)
class FileFigures:
    """Figures of one file.

    Attributes:
        name: of the row.
        detail: what was done, in words.
        score: on the selection split, by ONNX Runtime on the file.
        latency: on the target.
        size_bytes: of the file.
        params: number of weights; None where they cannot be counted.
        macs: multiply-accumulates of one image; None likewise.
    """

    name: str
    detail: str
    score: Score
    latency: Latency
    size_bytes: int
    params: int | None = None
    macs: int | None = None


@dataclass(frozen=True, kw_only=True)
class PostTrainingResult:
    """Outcome of post-training work: the new file beside the given model.

    Attributes:
        model: name of the model.
        path: the new ONNX file.
        before: figures of the model as given.
        after: figures of the new file, timed beside the former.
        agreement: share of the images of the selection split to which both files give the same class, 0..1.
        split_name: the selection split in words.
        bits: bit-width by unit and layer.
        weights: file of the new weights; None where they are those given.
        notes: facts that a reader of the figures needs, one sentence each.
    """

    model: str
    path: Path
    before: FileFigures
    after: FileFigures
    agreement: float
    split_name: str
    bits: Mapping[str, int]
    weights: Path | None = None
    notes: tuple[str, ...] = ()

    @property
    def speedup(self) -> Int8Speedup:
        """How much faster the new file is than the given one, with its interval."""
        return int8_speedup(self.after.latency, self.before.latency)

    @property
    def latency_ratio(self) -> tuple[float, float, float]:
        """Latency of the new file as a share of the given one's: value, and both ends of the 95 % interval."""
        gain = self.speedup
        return 1 / gain.speedup, 1 / gain.high, 1 / gain.low


def score_file(model: PostTrainingModel, path: Path) -> tuple[Score, npt.NDArray[np.int64]]:
    """Score of a file on the selection split, and the class that it gives to each image [N].

    Raises:
        CandidateError: the file's outputs have another shape or are not finite.
    """
    predicted: list[npt.NDArray[np.int64]] = []
    with model.open(path) as predict:

        def remember(images: Images) -> npt.NDArray[np.float32]:
            outputs = predict(images)
            predicted.append(outputs.argmax(1))
            return outputs

        result = score(remember, model.data.val, model.data.classes)
    return result, np.concatenate(predicted)


def split_name(data: FaceData) -> str:
    """The selection split in words; synthetic images are named as such."""
    return f"val ({data.val_name}{', synthetic faces' if data.synthetic else ''}), {len(data.val):,} images"
