"""Somebody's ONNX file as a teacher: fed with our faces, and asked for its answers or for what its layers hold.

The file is rewritten so that any runtime can answer: its input becomes raw pixels [N, C, H, W] as float32, with the
teacher's own scaling, layout and type behind it, and its output one row of numbers per image.
"""

import json
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
from nas.runtimes.base import Runtime

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
"""Ways to scale pixels that nets ask for: what is subtracted, then divided by, for each channel or for all."""
MIN_FEATURE_CHANNELS = 4
"""A layer with fewer channels is pre-processing."""
_LUMA_WEIGHTS = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in brightness: ITU-R BT.601."""
_NODE_PREFIX = "nas_teacher"


@dataclass(frozen=True, kw_only=True)
class TeacherLayer:
    """A tensor inside a file: its name, and its shape (C, H, W) for one image."""

    name: str
    shape: tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class OnnxTeacher:
    """An ONNX file and the shape (C, H, W) of the images that it shall see.

    Raises:
        ConfigError: on first use, when it is no ONNX file or its input is no image.
    """

    path: Path
    image_shape: tuple[int, int, int]

    @cached_property
    def model(self) -> ModelProto:
        """The file as it is."""
        try:
            return onnx.load(self.path)
        except Exception as error:  # protobuf's errors share no base with onnx's
            raise ConfigError(f"{self.path} must be an ONNX file, but cannot be read as one: {error}") from None

    @property
    def metadata(self) -> dict[str, str]:
        """The file's own properties."""
        return {entry.key: entry.value for entry in self.model.metadata_props}

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of its classes in its order, where it says them under `labels`."""
        try:
            names = json.loads(self.metadata.get("labels", "null"))
        except ValueError:
            return None
        return tuple(map(str, names)) if isinstance(names, list) else None

    @property
    def is_own_export(self) -> bool:
        """Whether it was written by this package, and so takes raw pixels."""
        return self.model.producer_name == "fer-nas"

    @cached_property
    def is_channels_last(self) -> bool:
        """Whether its images are [N, H, W, C]."""
        _, second, _, fourth = self._input_dims
        return second not in (1, 3) and fourth in (1, 3)

    @cached_property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images that it wants; what it leaves open is as our faces are."""
        _, *dims = self._input_dims
        if self.is_channels_last:
            dims = [dims[2], dims[0], dims[1]]
        c, h, w = (dim or ours for dim, ours in zip(dims, self.image_shape, strict=True))
        return c, h, w

    @property
    def fixed_batch_size(self) -> int | None:
        """Images per run where that is fixed."""
        return self._input_dims[0] or None

    def with_raw_input(
        self, output_names: Sequence[str] | None = None, *, pixel_scaling: str = RAW_PIXELS
    ) -> ModelProto:
        """The file with raw pixels [N, C, H, W] in and one row per image out.

        Args:
            output_names: tensors whose values stand in the row, one after the other; None takes the first output.
            pixel_scaling: the scaling it wants, a key of `PIXEL_SCALINGS`.
        """
        model = ModelProto()
        model.CopyFrom(self.model)
        graph = model.graph
        output_names = [graph.output[0].name] if output_names is None else output_names
        before = self._prepend_preprocessing(model, pixel_scaling)
        after = []
        for i, name in enumerate(output_names):
            after.append(helper.make_node("Cast", [name], [f"{_NODE_PREFIX}/float{i}"], to=TensorProto.FLOAT))
            after.append(helper.make_node("Flatten", [f"{_NODE_PREFIX}/float{i}"], [f"{_NODE_PREFIX}/row{i}"], axis=1))
        rows = [f"{_NODE_PREFIX}/row{i}" for i in range(len(output_names))]
        after.append(helper.make_node("Concat", rows, [f"{_NODE_PREFIX}/taught"], axis=1))
        nodes = [*before, *graph.node, *after]
        del graph.node[:], graph.output[:]
        graph.node.extend(nodes)
        graph.output.append(helper.make_tensor_value_info(f"{_NODE_PREFIX}/taught", TensorProto.FLOAT, None))
        return model

    def feature_layers(self) -> list[TeacherLayer]:
        """The last tensor of each size of maps, shallow ones first: what its stages hand on."""
        model = ModelProto()
        model.CopyFrom(self.model)
        c, h, w = self.input_shape
        dims = (1, h, w, c) if self.is_channels_last else (1, c, h, w)
        for dim, size in zip(self._input_info(model).type.tensor_type.shape.dim, dims, strict=True):
            dim.dim_value = size
        found: dict[tuple[int, int], TeacherLayer] = {}
        inferred = {v.name: v for v in shape_inference.infer_shapes(model, data_prop=True).graph.value_info}
        for name in (name for node in self.model.graph.node for name in node.output if name in inferred):
            tensor = inferred[name].type.tensor_type
            sizes = tuple(d.dim_value for d in tensor.shape.dim)
            is_real = tensor.elem_type in (TensorProto.FLOAT, TensorProto.FLOAT16)
            if is_real and len(sizes) == 4 and sizes[0] == 1 and sizes[1] >= MIN_FEATURE_CHANNELS and 1 < sizes[2] <= h:
                found[sizes[2:]] = TeacherLayer(name=name, shape=sizes[1:])
        return [] if self.is_channels_last else sorted(found.values(), key=lambda layer: -layer.shape[1])

    @property
    def _input_dims(self) -> tuple[int, int, int, int]:
        """The input's sizes; 0 where it leaves them open."""
        sizes = tuple(d.dim_value for d in self._input_info(self.model).type.tensor_type.shape.dim)
        if len(sizes) != 4:
            raise ConfigError(
                f"{self.path} must take images [N, C, H, W], but its input has {len(sizes)} axes; save its answers to "
                "the training images as an array instead"
            )
        return sizes

    def _input_info(self, model: ModelProto) -> onnx.ValueInfoProto:
        held = {tensor.name for tensor in model.graph.initializer}
        found: onnx.ValueInfoProto = next(entry for entry in model.graph.input if entry.name not in held)
        return found

    def _prepend_preprocessing(self, model: ModelProto, pixel_scaling: str) -> list[onnx.NodeProto]:
        """Put a new input before the model's own, and return what leads from one to the other."""
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
            nodes.append(helper.make_node("Transpose", [last], [f"{_NODE_PREFIX}/turned"], perm=[0, 2, 3, 1]))
            last = f"{_NODE_PREFIX}/turned"
        return [*nodes, helper.make_node("Cast", [last], [name], to=kind)]


def fit_to_shape(images: Images, shape: tuple[int, int, int]) -> Images:
    """Images [N, C, H, W] in a teacher's shape (C, H, W): resized with antialiasing, grey to RGB or back."""
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
    """What a file says of images, one row each.

    Args:
        teacher: the teacher.
        images: [N, C, H, W] uint8 in the shape of our faces.
        runtime: runs it.
        pixels: the scaling it wants.
        outputs: tensors that stand in the row; None takes the first output.
        threads: of the runtime.

    Raises:
        ConfigError: the runtime refuses the file, or it does not take the images.
    """
    with teacher_session(
        teacher, runtime=runtime, pixel_scaling=pixel_scaling, output_names=output_names, threads=threads
    ) as answer:
        return answer(images)


@contextmanager
def teacher_session(
    teacher: OnnxTeacher,
    *,
    runtime: Runtime,
    pixel_scaling: str = RAW_PIXELS,
    output_names: Sequence[str] | None = None,
    threads: int = 1,
) -> Iterator[Callable[[Images], Floats]]:
    """The file, loaded for many calls; see `ask`."""
    model = teacher.with_raw_input(output_names, pixel_scaling=pixel_scaling)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "teacher.onnx"
        onnx.save(model, path)
        try:
            session = runtime.load(path, threads=threads)
        except MeasureError as error:
            raise ConfigError(f"teacher {teacher.path} must run on this machine, but does not: {error}") from None

    def answer(images: Images) -> Floats:
        known = fit_to_shape(images, teacher.input_shape)
        padding = -len(known) % (teacher.fixed_batch_size or 1)
        try:
            rows = session.predict(np.concatenate([known, known[:1].repeat(padding, 0)]) if padding else known)
        except Exception as error:  # onnxruntime's exceptions share no base but Exception
            reason = one_line(error)
            raise ConfigError(
                f"teacher {teacher.path} must answer images {list(teacher.input_shape)}, but: {reason}"
            ) from None
        return rows[: len(images)]

    try:
        yield answer
    finally:
        session.close()
