"""An ONNX file without its source, for post-training work: its nodes in units, its ranges, and its quantised forms.

A foreign file is tried in a child process first (`nas.runtimes.onnx_trial`), then brought to a form that can be
quantised: weights outside the file are read in, opsets below 13 are converted, batch norms folded. On pictures that
form must compute what the file does.

Units are those of user-defined nets: `stem`, `stage1`, `stage2`, ... where the size of the maps changes, and `head`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import ModelProto, NodeProto, TensorProto, version_converter

from hw_profiles._base import FLOAT16_BITS, FLOAT32_BITS, INT8_BITS, HardwareProfile
from nas import registry
from nas.compression.quantization.calibration import RangeObserver
from nas.compression.quantization.calibration_images import check_calibration_images
from nas.compression.quantization.clipping import CLIPPING_METHODS
from nas.compression.quantization.float16 import FLOAT16_MAX
from nas.data.base import FaceData, Images
from nas.distillation.onnx_teacher import PIXEL_SCALINGS, OnnxTeacher, fit_to_shape, teacher_session
from nas.errors import ConfigError, ExportError, one_line
from nas.files import write_atomic
from nas.models.layer_patterns import match_layers, unit_names
from nas.onnx_export.rewrite_check import MIXED_IMAGES_TOLERANCE, MIXED_IMAGES_WARNING, RELATIVE_TOLERANCE
from nas.post_training.base import CALIBRATION_IMAGES, PostTrainingModel, Predict
from nas.post_training.bits import BitsPlan
from nas.post_training.onnx_checks import check_input, check_is_float, find_source
from nas.post_training.onnx_units import PREPARE, assign_units
from nas.runtimes.onnx_input import MAX_FILE_BYTES, read_onnx_input
from nas.runtimes.ort.float16 import FLOAT16_OPS, to_float16
from nas.runtimes.ort.graphs import fold_graph, replace_softmaxes_of_one, run_model
from nas.runtimes.ort.quantization import (
    INTEGER_OPS,
    WEIGHTED_OPS,
    Grid,
    to_qdq,
)

Array = npt.NDArray[Any]

MIN_OPSET, UPGRADED_OPSET = 13, 17
"""First opset with scales per channel, and the one that older files are converted to."""
HOST_RUNTIME = "onnxruntime"
MAX_RUN_ELEMENTS = 2**26
"""Numbers of all tensors of a net that one calibrating run may hold: 256 MiB."""
MAX_BATCH = 64
N_CHECK_IMAGES = 64
MIN_KERNEL_AGREEMENT = 0.97
"""Share of pictures on which ONNX Runtime's integer kernels and its float ones must give the same class: nets of few
bits differ on ties, saturating kernels on far more."""


@dataclass(frozen=True, kw_only=True)
class TensorRange:
    """A float tensor: what was observed of it, and its shape for one image."""

    observer: RangeObserver
    shape: tuple[int, ...]


class OnnxGraph(PostTrainingModel):
    """An ONNX file with one image input, and its quantised forms.

    Args:
        path: the file.
        data: the data set that scores and calibrates it.
        profile: of the target.
        classes: class names in the order of the outputs, where the file does not name them.
        keep: patterns of nodes that stay in float.

    Raises:
        ConfigError: the file cannot be read or run, takes no single image, is float16 or quantised already, or does
            not fit the data's classes.
    """

    def __init__(
        self, path: Path, data: FaceData, profile: HardwareProfile, *, classes: tuple[str, ...] = (),
        keep: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self.name, self.data, self.profile, self._path = path.stem, data, profile, path
        check_input(path)
        self._source = find_source(path, data, classes)
        teacher = self._teacher
        c, h, w = teacher.input_shape
        self.timed_shape = (h, w, c) if teacher.is_channels_last else (c, h, w)
        self.notes = self._source.notes
        check_is_float(teacher.model, path)
        self._check_images = self._inputs(data.val.images[:N_CHECK_IMAGES])
        self._model = self._prepared(teacher.model)
        replace_softmaxes_of_one(self._model, self._shapes)
        together, alone = self._first_outputs(self._model)[:1], self._first_outputs(self._model, n_images=1)
        if np.abs(together - alone).max() > MIXED_IMAGES_TOLERANCE * max(1e-6, float(np.abs(alone).max())):
            self.notes += (MIXED_IMAGES_WARNING,)
        self._unit_by_node = assign_units(self._model, quantisable=self._quantisable, shapes=self._shapes)
        if not any(unit != PREPARE for unit in self._unit_by_node.values()):
            raise ConfigError(
                f"{path} must have a convolution or a matrix product with constant weights, but has none; there is "
                "nothing to quantise"
            )
        self.units = tuple(unit for unit in unit_names(self._unit_by_node.values()) if unit != PREPARE)
        order = [node.name for node in self._model.graph.node]
        self.layers = {
            name: name for name in order if name in self._quantisable and self._unit_by_node[name] != PREPARE
        }
        self._kept = match_layers(keep, self.layers, option="--keep")

    def given_file(self, folder: Path) -> Path:
        """The file itself."""
        return self._path

    def write(self, path: Path, plan: BitsPlan, *, calibration: str, is_draft: bool = False) -> None:
        """See `PostTrainingModel.write`. A plan without INT8 and FP16 gives the file as it was, in one piece."""
        widths = self._node_bits(plan)
        integer = {name for name, width in widths.items() if width == INT8_BITS}
        half = {name for name, width in widths.items() if width == FLOAT16_BITS}
        model = self._model if integer or half else self._teacher.model
        if integer:
            check_calibration_images(self._calibration_images)
            model = to_qdq(
                model, nodes=integer, grids=self._grids("minmax" if is_draft else calibration),
                signed=self.profile.activation_signed, example=self._check_images[:1],
            )  # fmt: skip
        if half:
            half |= self._float16_followers(plan)
            self._check_float16_range(half)
            model = to_float16(model, nodes=half, floats=set(self._shapes) | _pair_outputs(model))
        if not is_draft and integer:
            self._check_kernels(model)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, model.SerializeToString(deterministic=True))

    @contextmanager
    def open(self, path: Path) -> Iterator[Predict]:
        """See `PostTrainingModel.open`; the columns are in the order of the data's classes."""
        teacher = OnnxTeacher(path=path, image_shape=self.data.input_shape, output_name=self._teacher.output_name)
        columns = list(self._source.class_columns)
        with teacher_session(
            teacher, runtime=registry.load("runtime", HOST_RUNTIME), pixel_scaling=self._source.pixel_scaling
        ) as run:
            yield lambda images: run(images)[:, columns]

    @property
    def _teacher(self) -> OnnxTeacher:
        if self._source.onnx_teacher is None:
            raise ConfigError(f"{self._path} must be an ONNX file, but is another kind; give its path")
        return self._source.onnx_teacher

    def _prepared(self, model: ModelProto) -> ModelProto:
        """The model in one piece at opset 13 or more, with batch norms folded, proved equal on pictures.

        Raises:
            ConfigError: it cannot be converted, or then computes something else.
        """
        if model.ByteSize() > MAX_FILE_BYTES:
            raise ConfigError(f"{self._path} must be below 2 GiB with its weights, but is larger; use a smaller model")
        opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)
        converted = model
        if opset < MIN_OPSET:
            try:
                converted = version_converter.convert_version(model, UPGRADED_OPSET)
            except Exception as error:  # onnx's errors share no base
                raise ConfigError(
                    f"{self._path} must be of opset {MIN_OPSET} or newer, but is of {opset} and cannot be converted: "
                    f"{one_line(error)}; export it again with a newer opset"
                ) from None
            self.notes += (f"{self._path.name} was converted from opset {opset} to {UPGRADED_OPSET}",)
        folded = fold_graph(converted)
        expected, got = (self._first_outputs(m) for m in (model, folded))
        difference = float(np.abs(expected - got).max() / max(1e-6, float(np.abs(expected).max())))
        if expected.shape != got.shape or not difference <= RELATIVE_TOLERANCE:
            raise ConfigError(
                f"{self._path} must compute the same after its batch norms are folded, but its outputs differ by "
                f"{difference:.2g} of the largest; export it again with a newer opset"
            )
        return folded

    def _first_outputs(
        self, model: ModelProto, *, fused: bool = True, n_images: int | None = None
    ) -> npt.NDArray[np.float32]:
        """The output that holds the classes, for the check images or the first of them [N, outputs]."""
        name = self._teacher.output_name or model.graph.output[0].name
        batches = run_model(model, self._batches(self._check_images[:n_images]), outputs=[name], fused=fused)
        parts = [values[0].reshape(len(values[0]), -1) for values in batches]
        return np.concatenate(parts).astype(np.float32)

    def _check_kernels(self, model: ModelProto) -> None:
        """Reject a file from which ONNX Runtime's integer kernels compute something else than it says.

        Raises:
            ExportError: they give other classes than the same file computed in float; kernels saturate on some CPUs.
        """
        exact, fused = self._first_outputs(model, fused=False).argmax(1), self._first_outputs(model).argmax(1)
        agreement = float((exact == fused).mean())
        if agreement < MIN_KERNEL_AGREEMENT:
            raise ExportError(
                f"integer kernels must compute what the file says, but give the same class on {agreement:.0%} of "
                f"{len(exact)} pictures only; use --bits 32 on this machine"
            )

    def _inputs(self, images: Images) -> Array:
        """Images [N, C, H, W] as the file takes them: fitted, scaled, in its layout and type."""
        teacher = self._teacher
        fitted = fit_to_shape(images, teacher.input_shape).astype(np.float32)
        mean, std = (np.array(values, np.float32) for values in PIXEL_SCALINGS[self._source.pixel_scaling])
        if len(mean) not in (1, fitted.shape[1]):
            mean, std = mean.mean(keepdims=True), std.mean(keepdims=True)
        scaled = (fitted - mean.reshape(-1, 1, 1)) / std.reshape(-1, 1, 1)
        kind = onnx.helper.tensor_dtype_to_np_dtype(read_onnx_input(self._path).element_type)
        laid_out = scaled.transpose(0, 2, 3, 1) if teacher.is_channels_last else scaled
        return np.ascontiguousarray(laid_out.astype(kind))

    def _batches(self, inputs: Array, size: int = MAX_BATCH) -> Iterator[Array]:
        size = self._teacher.fixed_batch_size or size
        return (inputs[i : i + size] for i in range(0, len(inputs), size))

    @cached_property
    def _calibration_images(self) -> Images:
        return self.data.train.images[self.data.train.evenly_spread_rows(CALIBRATION_IMAGES)]

    @cached_property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape for one image of every float tensor that a node computes or the graph takes."""
        names = list(dict.fromkeys(name for node in self._model.graph.node for name in node.output if name))
        (values,) = run_model(self._model, [self._check_images[:1]], outputs=names)
        shapes = {n: v.shape for n, v in zip(names, values, strict=True) if getattr(v, "dtype", None) == np.float32}
        if self._check_images.dtype == np.float32:
            shapes[self._model.graph.input[0].name] = self._check_images[:1].shape
        return shapes

    @cached_property
    def _ranges(self) -> dict[str, RangeObserver]:
        """What the calibration images show of every tensor that a node in INT8 may touch."""
        touched = {
            name
            for node in self._model.graph.node
            if node.name in self._quantisable
            for name in (*node.input, *node.output)
            if name in self._shapes
        }
        ranges = {name: RangeObserver() for name in sorted(touched)}
        for observed in self._observed_values(list(ranges)):
            for name, value in observed.items():
                ranges[name].observe(torch.from_numpy(value))
        return ranges

    def _observed_values(self, names: list[str]) -> Iterator[dict[str, Array]]:
        per_image = sum(int(np.prod(self._shapes[name])) for name in names)
        size = max(1, min(MAX_BATCH, MAX_RUN_ELEMENTS // max(1, per_image)))
        source = self._model.graph.input[0].name
        computed = [name for name in names if name != source]
        inputs = self._inputs(self._calibration_images)
        feeds = self._batches(inputs, size), self._batches(inputs, size)
        for feed, values in zip(feeds[0], run_model(self._model, feeds[1], outputs=computed), strict=True):
            observed = dict(zip(computed, values, strict=True))
            yield {name: feed if name == source else observed[name] for name in names}

    def _grids(self, method: str) -> dict[str, Grid]:
        """Scale and zero point of each tensor by a calibration method."""
        ranges = self._ranges
        if method in CLIPPING_METHODS and not any(observer.histogram.any() for observer in ranges.values()):
            for observed in self._observed_values(list(ranges)):
                for name, value in observed.items():
                    ranges[name].update_histogram(torch.from_numpy(value))
        grids = {
            name: observer.fake_quantize(signed=self.profile.activation_signed, method=method)
            for name, observer in ranges.items()
        }
        return {name: (grid.scale, grid.zero_point) for name, grid in grids.items()}

    @cached_property
    def _largest(self) -> dict[str, float]:
        """Largest magnitude on the calibration images of every float tensor that a node in FP16 may touch."""
        nodes = [n for n in self._model.graph.node if n.name in self._quantisable or n.op_type in FLOAT16_OPS]
        touched = {name for node in nodes for name in (*node.input, *node.output) if name in self._shapes}
        largest = dict.fromkeys(sorted(touched), 0.0)
        for observed in self._observed_values(list(largest)):
            for name, value in observed.items():
                largest[name] = float(np.maximum(largest[name], np.abs(value).max()))  # NaN stays NaN
        return largest

    def _check_float16_range(self, nodes: set[str]) -> None:
        """Reject values that float16 cannot hold: at a node's output they become infinite, at its input in the cast."""
        for node in self._model.graph.node:
            for name in (*node.input, *node.output) if node.name in nodes else ():
                if not self._largest.get(name, 0.0) <= FLOAT16_MAX:
                    raise ExportError(
                        f"values in float16 must lie within {FLOAT16_MAX:,.0f}, but {name!r} at {node.name!r} reaches "
                        f"{self._largest[name]:,.0f}; give it 8 or 32 bits"
                    )

    def _float16_followers(self, plan: BitsPlan) -> set[str]:
        """Nodes without integer kernels in units of FP16: they are in float16 with their neighbours."""
        return {
            node.name
            for node in self._model.graph.node
            if node.name not in self.layers
            and node.op_type in FLOAT16_OPS
            and plan.units.get(self._unit_by_node[node.name]) == FLOAT16_BITS
            and node.input[0] in self._shapes
            and all(name in self._shapes for name in node.output)
        }

    def _node_bits(self, plan: BitsPlan) -> dict[str, int]:
        """Bit-width of each node that may have one; an activation follows a layer that has one of its own."""
        makers = {name: node.name for node in self._model.graph.node for name in node.output}
        own = dict.fromkeys(self._kept, FLOAT32_BITS) | {
            name: width for name, width in plan.layers.items() if name not in self._kept
        }
        widths: dict[str, int] = {}
        for node in self._model.graph.node:
            if node.name not in self.layers:
                continue
            source = makers.get(node.input[0], "") if node.op_type in ("Relu", "Clip", "LeakyRelu", "Sigmoid") else ""
            if node.name not in own and source in own:
                own[node.name] = own[source]
            widths[node.name] = own.get(node.name, plan.units[self._unit_by_node[node.name]])
        return widths

    @cached_property
    def _quantisable(self) -> frozenset[str]:
        """Names of the nodes that may be narrow: they compute float tensors by operators that have integer kernels."""
        constants = {tensor.name: tensor for tensor in self._model.graph.initializer}

        def is_quantisable(node: NodeProto) -> bool:
            if node.op_type not in INTEGER_OPS or node.domain not in ("", "ai.onnx"):
                return False
            if node.op_type in WEIGHTED_OPS and (
                node.input[1] not in constants or constants[node.input[1]].data_type != TensorProto.FLOAT
            ):
                return False  # weights that are computed have no scales per channel
            return node.input[0] in self._shapes and all(name in self._shapes for name in node.output)

        return frozenset(node.name for node in self._model.graph.node if is_quantisable(node))


def _pair_outputs(model: ModelProto) -> set[str]:
    """Tensors that a Q/DQ pair of activations gives, which are float32."""
    constants = {tensor.name for tensor in model.graph.initializer}
    pairs = [node for node in model.graph.node if node.op_type == "DequantizeLinear"]
    return {node.output[0] for node in pairs if node.input[0] not in constants}
