"""ONNX teacher: an external ONNX file, run on the data's images for its outputs or for tensors inside it.

The file is rewritten so that every runtime of this package can run it. Its input becomes raw pixels [N, C, H, W] as
float32, followed by the scaling, layout and type that the file expects. Its output becomes one row of numbers for
each image.
"""

import hashlib
import json
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper, shape_inference
from torch.nn import functional

from nas.errors import ConfigError, MeasureError, one_line
from nas.files import file_sha256
from nas.input_form import CHANNELS_LAST, InputForm
from nas.runtimes.base import Runtime
from nas.runtimes.onnx_input import (
    external_files,
    graph_inputs,
    load_external_weights,
    read_onnx_model,
    stated_input_form,
)
from nas.runtimes.onnx_trial import check_in_child

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

RAW_PIXELS = "0..255"
_IMAGENET_MEAN_STD = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
PIXEL_SCALINGS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    RAW_PIXELS: ((0.0,), (1.0,)),
    "0..1": ((0.0,), (255.0,)),
    "-1..1": ((127.5,), (127.5,)),
    "ImageNet mean and deviation": _IMAGENET_MEAN_STD,
}
"""Common input scalings: the value to subtract and the value to divide by, for each channel or for all channels.

The ImageNet values are those of torchvision's pre-trained nets (0.485, 0.456, 0.406 and 0.229, 0.224, 0.225) times 255.
"""
MIN_FEATURE_CHANNELS = 4
"""Layers with fewer channels count as pre-processing."""
_LUMA_WEIGHTS = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in luma, from ITU-R BT.601."""
_NODE_PREFIX = "nas_teacher"
_CHUNK_ELEMENTS = 2**26
"""Numbers of the images that are resized and run at once: 29,000 of 48 x 48, or 445 of 224 x 224 in colour."""


@dataclass(frozen=True, kw_only=True)
class TeacherLayer:
    """A tensor inside an ONNX file: its name, and its shape (C, H, W) for one image."""

    name: str
    shape: tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class OnnxTeacher:
    """An ONNX file used as a teacher.

    Attributes:
        path: the file.
        image_shape: (C, H, W) of the data's images.
        output_name: the output that holds the logits; None takes the first.

    Raises:
        ConfigError: on first use, if the file is not an ONNX file or its input is not an image.
    """

    path: Path
    image_shape: tuple[int, int, int]
    output_name: str | None = None

    @cached_property
    def model(self) -> ModelProto:
        """The model in the file with all of its weights, unchanged."""
        try:
            model = read_onnx_model(self.path)
            load_external_weights(model, self.path.parent)
        except (OSError, ValueError) as error:
            raise self._unreadable(error) from None
        return model

    def _unreadable(self, error: Exception) -> ConfigError:
        return ConfigError(
            f"{self.path} must be an ONNX file, but cannot be read as one: {one_line(error)}; export the teacher again"
        )

    @cached_property
    def sha256(self) -> str:
        """Digest of the file; where weights are stored in other files, of these too."""
        digests = [file_sha256(self.path)]
        try:
            locations = external_files(read_onnx_model(self.path))
        except (OSError, ValueError) as error:
            raise self._unreadable(error) from None
        digests += [f"{location} {file_sha256(self.path.parent / location)}" for location in locations]
        return digests[0] if not locations else hashlib.sha256("\n".join(digests).encode()).hexdigest()

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the file's outputs, in order."""
        return tuple(entry.name for entry in self.model.graph.output)

    def check_runs(self) -> None:
        """Run the file once in a child process, so that a hostile file cannot harm this one.

        Raises:
            ConfigError: it does not run, or exceeds the limits of `nas.runtimes.onnx_trial`.
        """
        c, h, w = self.input_shape
        image = (h, w, c) if self.is_channels_last else (c, h, w)
        try:
            check_in_child(self.path, input_shape=(self.fixed_batch_size or 1, *image))
        except MeasureError as error:
            raise ConfigError(f"teacher {self.path} must run on this machine, but does not: {error}") from None

    @property
    def metadata(self) -> dict[str, str]:
        """The file's metadata properties."""
        return {entry.key: entry.value for entry in self.model.metadata_props}

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Class names in the order of the outputs, from the property `labels` or `id2label`.

        It is a JSON list, or an object with the keys 0 to K - 1 as in Hugging Face's configurations; None without.
        """
        try:
            names = json.loads(self.metadata.get("labels") or self.metadata.get("id2label") or "null")
        except (ValueError, RecursionError):
            return None
        if isinstance(names, dict) and set(names) == {str(i) for i in range(len(names))}:
            names = [names[str(i)] for i in range(len(names))]
        return tuple(map(str, names)) if isinstance(names, list) and len(names) > 1 else None

    @cached_property
    def stated_form(self) -> InputForm | None:
        """The input form that the file's metadata state; None where they state none."""
        try:
            return stated_input_form(self.model)
        except ValueError as error:
            raise self._unreadable(error) from None

    @property
    def is_own_export(self) -> bool:
        """Whether this package wrote the file, which therefore takes raw pixels."""
        return self.model.producer_name == "fer-nas"

    @cached_property
    def is_channels_last(self) -> bool:
        """Whether the input is [N, H, W, C]: as the metadata state, else by its dimensions."""
        if self.stated_form is not None:
            return self.stated_form.layout == CHANNELS_LAST
        _, second, _, fourth = self._input_dims
        return second not in (1, 3) and fourth in (1, 3)

    @cached_property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the file's input; dynamic dimensions take the size of the data's images."""
        _, *dims = self._input_dims
        if self.is_channels_last:
            dims = [dims[2], dims[0], dims[1]]
        c, h, w = (dim or image_dim for dim, image_dim in zip(dims, self.image_shape, strict=True))
        return c, h, w

    @property
    def fixed_batch_size(self) -> int | None:
        """Batch size of the input; None if it is dynamic."""
        return self._input_dims[0] or None

    def with_raw_input(
        self, output_names: Sequence[str] | None = None, *, pixel_scaling: str = RAW_PIXELS
    ) -> ModelProto:
        """The model with raw pixels [N, C, H, W] as input and one row per image as output.

        Args:
            output_names: tensors to concatenate into the row; None takes `output_name`, or else the first output.
            pixel_scaling: the scaling that the model expects, a key of `PIXEL_SCALINGS`.
        """
        model = ModelProto()
        model.CopyFrom(self.model)
        graph = model.graph
        if output_names is None:
            output_names = [self.output_name or graph.output[0].name]
        input_nodes = self._prepend_preprocessing(model, pixel_scaling)
        output_nodes = []
        for i, name in enumerate(output_names):
            cast, flat = f"{_NODE_PREFIX}/float{i}", f"{_NODE_PREFIX}/row{i}"
            output_nodes.append(helper.make_node("Cast", [name], [cast], to=TensorProto.FLOAT))
            output_nodes.append(helper.make_node("Flatten", [cast], [flat], axis=1))
        rows = [f"{_NODE_PREFIX}/row{i}" for i in range(len(output_names))]
        output_nodes.append(helper.make_node("Concat", rows, [f"{_NODE_PREFIX}/rows"], axis=1))
        nodes = [*input_nodes, *graph.node, *output_nodes]
        del graph.node[:], graph.output[:]
        graph.node.extend(nodes)
        graph.output.append(helper.make_tensor_value_info(f"{_NODE_PREFIX}/rows", TensorProto.FLOAT, None))
        return model

    def feature_layers(self) -> list[TeacherLayer]:
        """The last tensor of each map size (a stage's output), shallow ones first; none if channels are last."""
        model = ModelProto()
        model.CopyFrom(self.model)
        c, h, w = self.input_shape
        dims = (1, h, w, c) if self.is_channels_last else (1, c, h, w)
        for dim, size in zip(self._input_info(model).type.tensor_type.shape.dim, dims, strict=True):
            dim.dim_value = size
        layers: dict[tuple[int, int], TeacherLayer] = {}
        # Shapes of inner tensors are inferred from a fixed input of one image; files seldom store them.
        inferred = {v.name: v for v in shape_inference.infer_shapes(model, data_prop=True).graph.value_info}
        for name in (name for node in self.model.graph.node for name in node.output if name in inferred):
            tensor = inferred[name].type.tensor_type
            sizes = tuple(d.dim_value for d in tensor.shape.dim)
            is_real = tensor.elem_type in (TensorProto.FLOAT, TensorProto.FLOAT16)
            if is_real and len(sizes) == 4 and sizes[0] == 1 and sizes[1] >= MIN_FEATURE_CHANNELS and 1 < sizes[2] <= h:
                layers[sizes[2:]] = TeacherLayer(name=name, shape=sizes[1:])
        return [] if self.is_channels_last else sorted(layers.values(), key=lambda layer: -layer.shape[1])

    @property
    def _input_dims(self) -> tuple[int, int, int, int]:
        """Sizes of the input; 0 for a dynamic dimension."""
        sizes = tuple(d.dim_value for d in self._input_info(self.model).type.tensor_type.shape.dim)
        if len(sizes) != 4:
            raise ConfigError(
                f"{self.path} must take images [N, C, H, W], but its input has {len(sizes)} axes; save its logits for "
                "the training images as an array instead"
            )
        return sizes

    def _input_info(self, model: ModelProto) -> onnx.ValueInfoProto:
        entries = graph_inputs(model.graph)
        if len(entries) != 1:
            names = ", ".join(entry.name for entry in entries)
            raise ConfigError(
                f"{self.path} must take images alone, but has {len(entries)} inputs ({names}); save its logits for the "
                "training images as an array instead"
            )
        return entries[0]

    def _prepend_preprocessing(self, model: ModelProto, pixel_scaling: str) -> list[onnx.NodeProto]:
        """Replace the model's input by raw pixels, and return the nodes from there to the former input."""
        entry = self._input_info(model)
        name, kind = entry.name, entry.type.tensor_type.elem_type
        sizes: list[str | int] = [self.fixed_batch_size or "N", *self.input_shape]
        entry.CopyFrom(helper.make_tensor_value_info(f"{_NODE_PREFIX}/pixels", TensorProto.FLOAT, sizes))
        for part, values in zip(("mean", "deviation"), PIXEL_SCALINGS[pixel_scaling], strict=True):
            array = np.array(values if len(values) == self.input_shape[0] else np.mean(values), np.float32)
            model.graph.initializer.append(
                numpy_helper.from_array(array.reshape(-1, 1, 1), f"{_NODE_PREFIX}/{part}")  # [C or 1, 1, 1]
            )
        nodes = [
            helper.make_node("Sub", [f"{_NODE_PREFIX}/pixels", f"{_NODE_PREFIX}/mean"], [f"{_NODE_PREFIX}/centred"]),
            helper.make_node(
                "Div", [f"{_NODE_PREFIX}/centred", f"{_NODE_PREFIX}/deviation"], [f"{_NODE_PREFIX}/scaled"]
            ),
        ]
        last = f"{_NODE_PREFIX}/scaled"
        if self.is_channels_last:
            nodes.append(helper.make_node("Transpose", [last], [f"{_NODE_PREFIX}/channels_last"], perm=[0, 2, 3, 1]))
            last = f"{_NODE_PREFIX}/channels_last"
        return [*nodes, helper.make_node("Cast", [last], [name], to=kind)]


def fit_to_shape(images: Images, shape: tuple[int, int, int]) -> Images:
    """Images [N, C, H, W] converted to a teacher's shape (C, H, W).

    They are resized bilinearly with antialiasing. Grey is repeated to RGB; RGB becomes luma.
    """
    if images.shape[1:] == shape:
        return images
    pixels = torch.from_numpy(np.ascontiguousarray(images)).float()
    if pixels.shape[2:] != shape[1:]:
        pixels = functional.interpolate(pixels, size=shape[1:], mode="bilinear", antialias=True, align_corners=False)
    if pixels.shape[1] == 3 and shape[0] == 1:
        pixels = (pixels * torch.tensor(_LUMA_WEIGHTS).reshape(1, 3, 1, 1)).sum(1, keepdim=True)
    elif pixels.shape[1] != shape[0]:
        pixels = pixels[:, :1].expand(-1, shape[0], -1, -1)
    return np.asarray(pixels.round().clamp(0, 255).to(torch.uint8).numpy())


def run_teacher(
    teacher: OnnxTeacher,
    images: Images,
    *,
    runtime: Runtime,
    pixel_scaling: str = RAW_PIXELS,
    output_names: Sequence[str] | None = None,
    threads: int = 1,
) -> Floats:
    """Outputs of a teacher for images, [N, numbers per image].

    Args:
        teacher: the teacher.
        images: [N, C, H, W] uint8 of the data.
        runtime: the runtime that runs the file.
        pixel_scaling: the scaling that the teacher expects, a key of `PIXEL_SCALINGS`.
        output_names: tensors to concatenate into each row; None takes the teacher's output.
        threads: of the runtime.

    Raises:
        ConfigError: the runtime refuses the file, or the file does not take the images.
    """
    with teacher_session(
        teacher, runtime=runtime, pixel_scaling=pixel_scaling, output_names=output_names, threads=threads
    ) as run:
        return run(images)


@contextmanager
def teacher_session(
    teacher: OnnxTeacher,
    *,
    runtime: Runtime,
    pixel_scaling: str = RAW_PIXELS,
    output_names: Sequence[str] | None = None,
    threads: int = 1,
) -> Iterator[Callable[[Images], Floats]]:
    """A session for many batches.

    Yields:
        A function from images to outputs; see `run_teacher`, also for the arguments.

    Raises:
        ConfigError: the runtime refuses the file; the function raises it if the file does not take the images.
    """
    model = teacher.with_raw_input(output_names, pixel_scaling=pixel_scaling)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "teacher.onnx"
        onnx.save(model, path)
        try:
            session = runtime.load(path, threads=threads)
        except MeasureError as error:
            raise ConfigError(f"teacher {teacher.path} must run on this machine, but does not: {error}") from None

    def run(images: Images) -> Floats:
        chunk = max(1, _CHUNK_ELEMENTS // math.prod(teacher.input_shape))
        return np.concatenate([run_chunk(images[i : i + chunk]) for i in range(0, len(images), chunk)])

    def run_chunk(images: Images) -> Floats:
        fitted = fit_to_shape(images, teacher.input_shape)
        padding = -len(fitted) % (teacher.fixed_batch_size or 1)
        try:
            rows = session.predict(np.concatenate([fitted, *[fitted[:1]] * padding]) if padding else fitted)
        except Exception as error:  # onnxruntime's exceptions share no base but Exception
            reason = one_line(error)
            raise ConfigError(
                f"teacher {teacher.path} must take images of shape {list(teacher.input_shape)}, but the runtime says: "
                f"{reason}; save its logits for the training images as an array instead"
            ) from None
        if rows.shape[0] != len(fitted) + padding or not np.isfinite(rows).all():
            fault = "NaN or infinity" if rows.shape[0] == len(fitted) + padding else f"{rows.shape[0]} rows"
            raise ConfigError(
                f"teacher {teacher.path} must give a finite row for each of {len(fitted) + padding} images, but gives "
                f"{fault}; export it again"
            )
        return rows[: len(images)]

    try:
        yield run
    finally:
        session.close()
