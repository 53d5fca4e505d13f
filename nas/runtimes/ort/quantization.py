"""INT8 form of an ONNX graph: chosen nodes between Q/DQ nodes, by ONNX Runtime's quantiser with other defaults.

The engine is `onnxruntime.quantization.quantize_static`. Its defaults give a file that is slower than the float one.
Set differently here:

- Batch norms and constants are folded first (`nas.runtimes.ort.graphs`).
- Weights are symmetric with one scale per output channel.
- Activations are uint8, or int8 with zero point 0 for runtimes that want it, on grids that the caller has calibrated.
- There is no Q/DQ between a convolution, a matrix product or a sum and the ReLU that alone reads it, so that kernels
  take the ReLU in.
"""

import logging
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper

from nas.runtimes.ort.graphs import Array, as_export_error, drop_unread, sort_nodes

Grid = tuple[float, int]
"""Scale and zero point of a tensor."""

INTEGER_OPS = frozenset(
    {
        "Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Mul", "Relu", "Clip", "LeakyRelu", "Sigmoid", "MaxPool",
        "AveragePool", "GlobalAveragePool", "Concat", "Split", "Slice", "Resize", "Pad", "Reshape", "Flatten",
        "Transpose", "Squeeze", "Unsqueeze",
    }
)  # fmt: skip
"""Operators that have integer kernels, or move values only."""
WEIGHTED_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_RELU_OPS = frozenset({"Relu", "Clip"})
_RELU_FUSING_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Add"})
_PREPROCESSED = {"onnx.quant.pre_process": "onnxruntime.quant"}
"""Metadata by which `quantize_static` knows that batch norms are folded; without it, it warns."""


def to_qdq(
    model: ModelProto, *, nodes: Collection[str], grids: Mapping[str, Grid], signed: bool, example: Array
) -> ModelProto:
    """The model with these nodes in INT8, between Q/DQ nodes.

    Args:
        model: from `fold_graph`.
        nodes: names of the nodes.
        grids: scale and zero point of every float tensor that a node reads or writes.
        signed: activations in int8 with zero point 0 instead of uint8.
        example: one value of the input.

    Raises:
        ExportError: ONNX Runtime's quantiser refuses the model.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    source = ModelProto()
    source.CopyFrom(model)
    helper.set_model_props(source, {**{p.key: p.value for p in model.metadata_props}, **_PREPROCESSED})
    kind = QuantType.QInt8 if signed else QuantType.QUInt8
    touched = {
        name for node in model.graph.node if node.name in nodes for name in (*node.input, *node.output) if name in grids
    }
    overrides = {name: [{"quant_type": kind, **_grid_arrays(grids[name], signed=signed)}] for name in sorted(touched)}
    with tempfile.TemporaryDirectory(prefix="fer-nas-") as folder, _quiet():
        target = Path(folder) / "quantised.onnx"
        with as_export_error("an ONNX model must take Q/DQ nodes"):
            quantize_static(
                source, target, _OneBatch(model.graph.input[0].name, example), quant_format=QuantFormat.QDQ,
                op_types_to_quantize=sorted(INTEGER_OPS), per_channel=True, activation_type=kind,
                weight_type=QuantType.QInt8, nodes_to_quantize=sorted(nodes),
                calibrate_method=CalibrationMethod.MinMax,
                extra_options={
                    "WeightSymmetric": True, "QDQKeepRemovableActivations": True, "TensorQuantOverrides": overrides,
                    "ForceQuantizeNoInputCheck": False,
                },
            )  # fmt: skip
        quantised = onnx.load(target)
    _fuse_relus(quantised)
    sort_nodes(quantised)
    _copy_metadata(model, quantised)
    return quantised


class _OneBatch:
    """A calibration reader of one batch: all grids are given, so what it calibrates is not used."""

    def __init__(self, name: str, value: Array) -> None:
        self._feeds: list[dict[str, Array]] = [{name: value}]

    def get_next(self) -> dict[str, Array] | None:
        return self._feeds.pop() if self._feeds else None


def _grid_arrays(grid: Grid, *, signed: bool) -> dict[str, Array]:
    kind: Any = np.int8 if signed else np.uint8
    return {"scale": np.array(grid[0], np.float32), "zero_point": np.array(grid[1], kind)}


def _fuse_relus(model: ModelProto) -> None:
    """Remove the Q/DQ pair between a layer and the ReLU that alone reads it, in place."""
    graph = model.graph
    makers: dict[str, NodeProto] = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {entry.name for entry in graph.output}
    removed: list[NodeProto] = []
    for relu in graph.node:
        dequantize = makers.get(relu.input[0]) if relu.op_type in _RELU_OPS else None
        quantize = makers.get(dequantize.input[0]) if dequantize is not None and dequantize.input else None
        if dequantize is None or quantize is None or quantize.op_type != "QuantizeLinear":
            continue
        source = makers.get(quantize.input[0])
        is_single = all(len(readers.get(n.output[0], ())) == 1 for n in (quantize, dequantize))
        alone = source is not None and len(readers.get(source.output[0], ())) == 1 and is_single
        if source is not None and alone and source.op_type in _RELU_FUSING_OPS and source.output[0] not in outputs:
            relu.input[0] = source.output[0]
            removed += [quantize, dequantize]
    for node in removed:
        graph.node.remove(node)
    drop_unread(model)


def _copy_metadata(source: ModelProto, target: ModelProto) -> None:
    del target.metadata_props[:]
    target.metadata_props.extend(source.metadata_props)
    target.producer_name, target.producer_version = source.producer_name, source.producer_version


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the advice that ONNX Runtime's tools log through the root logger off the terminal."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)
