"""Post-training work on an ONNX graph by ONNX Runtime's tools: INT8 in Q/DQ form, float16, and the values of tensors.

The engine is `onnxruntime.quantization.quantize_static`. Its defaults give a file that is slower than the float one.
Set differently here:

- Batch norms and constants are folded first.
- Weights are symmetric with one scale per output channel.
- Activations are uint8, or int8 with zero point 0 for runtimes that want it, on grids that the caller has calibrated.
- There is no Q/DQ between a convolution, a matrix product or a sum and the ReLU that alone reads it, so that kernels
  take the ReLU in.
"""

import logging
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from nas.errors import ExportError, one_line
from nas.runtimes.ort.session import CPU_PROVIDER, session_options

Array = npt.NDArray[Any]
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
FLOAT16_OPS = INTEGER_OPS | {
    "Sub", "Div", "HardSwish", "HardSigmoid", "Elu", "Selu", "PRelu", "Softplus", "Tanh", "Erf", "Gelu", "Mish",
    "GlobalMaxPool", "ReduceMean",
}  # fmt: skip
"""Operators whose only float inputs are data and weights, which may be float16 alike."""
WEIGHTED_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_RELU_OPS = frozenset({"Relu", "Clip"})
_RELU_FUSING_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Add"})
_PREPROCESSED = {"onnx.quant.pre_process": "onnxruntime.quant"}
"""Metadata by which `quantize_static` knows that batch norms are folded; without it, it warns."""


def fold_graph(model: ModelProto) -> ModelProto:
    """The model after the optimisations that keep standard operators: batch norms and constants folded.

    Nodes get names, inputs and outputs stay.

    Raises:
        ExportError: ONNX Runtime refuses the model.
    """
    with tempfile.TemporaryDirectory(prefix="fer-nas-") as folder:
        source, target = Path(folder) / "model.onnx", Path(folder) / "folded.onnx"
        onnx.save(model, source)
        options = session_options(1)
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(target)
        with _as_export_error("an ONNX model must load"):
            ort.InferenceSession(str(source), sess_options=options, providers=[CPU_PROVIDER])
        folded = onnx.load(target)
    used = {node.domain for node in folded.graph.node} | {""}
    kept = [entry for entry in folded.opset_import if entry.domain in used]
    del folded.opset_import[:]
    folded.opset_import.extend(kept)
    taken: set[str] = set()
    for i, node in enumerate(folded.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{i}"
        taken.add(node.name)
    return folded


def run_model(model: ModelProto, feeds: Iterable[Array], *, outputs: Sequence[str] = (), fused: bool = True) -> Any:
    """Values of a model's tensors, one batch of its only input after the other.

    Args:
        model: with one input.
        feeds: values of the input.
        outputs: names of tensors; empty takes the model's own outputs.
        fused: whether ONNX Runtime may fuse and rewrite nodes; without it Q/DQ pairs are computed as they stand.

    Yields:
        For each batch an array for each output.

    Raises:
        ExportError: ONNX Runtime refuses the model or a batch.
    """
    probe = ModelProto()
    probe.CopyFrom(model)
    if outputs:
        del probe.graph.output[:]
        probe.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in outputs)
    options = session_options(1)
    if not fused:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    with _as_export_error("an ONNX model must run"):
        session = ort.InferenceSession(probe.SerializeToString(), sess_options=options, providers=[CPU_PROVIDER])
        name = session.get_inputs()[0].name
    for feed in feeds:
        with _as_export_error("an ONNX model must run"):
            values = session.run(None, {name: feed})
        yield values


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
        with _as_export_error("an ONNX model must take Q/DQ nodes"):
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
    _sort_nodes(quantised)
    _copy_metadata(model, quantised)
    return quantised


def to_float16(model: ModelProto, *, nodes: Collection[str], floats: Collection[str]) -> ModelProto:
    """The model with these nodes in float16, between casts; inputs and outputs stay as they are.

    Args:
        model: from `fold_graph`, or from `to_qdq` with other nodes in INT8.
        nodes: names of the nodes.
        floats: names of the tensors that are computed in float32.

    Raises:
        ExportError: a weight is beyond float16.
    """
    converted = ModelProto()
    converted.CopyFrom(model)
    graph = converted.graph
    weights = {t.name: t for t in graph.initializer if t.data_type == TensorProto.FLOAT}
    halves: dict[str, str] = {}  # float32 tensor to its float16 form
    computed: list[NodeProto] = []

    def half_of(name: str) -> str:
        if name not in halves:
            halves[name] = f"{name}/half"
            if name in weights:
                graph.initializer.append(_half_weight(weights[name], halves[name]))
            else:
                computed.append(_cast(name, halves[name], TensorProto.FLOAT16))
        return halves[name]

    own = [node for node in graph.node if node.name in nodes]
    made = {name for node in own for name in node.output if name in floats}
    # What a node of these computes is float16 under another name; the old name is a cast for all other readers.
    for name in made:
        halves[name] = f"{name}/half"
        computed.append(_cast(halves[name], name, TensorProto.FLOAT))
    for node in own:
        for i, name in enumerate(node.input):
            if (name in floats or name in weights) and i not in _FLOAT32_INPUTS.get(node.op_type, ()):
                node.input[i] = half_of(name)
        for i, name in enumerate(node.output):
            if name in made:
                node.output[i] = halves[name]
    graph.node.extend(computed)
    del graph.value_info[:]
    _drop_unread(converted)
    _sort_nodes(converted)
    return converted


_FLOAT32_INPUTS = {"Resize": (1, 2)}
"""Inputs that stay in float32: region and scales of a Resize."""


def _half_weight(tensor: TensorProto, name: str) -> TensorProto:
    """A weight in float16.

    Raises:
        ExportError: float16 cannot hold it.
    """
    values = numpy_helper.to_array(tensor)
    limit, largest = float(np.finfo(np.float16).max), float(np.abs(values).max(initial=0.0))
    if not largest <= limit:
        raise ExportError(
            f"weights in float16 must lie within {limit:,.0f}, but {tensor.name!r} has {largest:,.0f}; use 32 or 8 bits"
        )
    half: TensorProto = numpy_helper.from_array(values.astype(np.float16), name)
    return half


def _cast(source: str, target: str, kind: int) -> NodeProto:
    node: NodeProto = helper.make_node("Cast", [source], [target], name=f"{target}/cast", to=kind)
    return node


def _drop_unread(model: ModelProto) -> None:
    """Remove casts and weights that nothing reads, in place."""
    graph = model.graph
    used = {name for node in graph.node for name in _outer_inputs(node)} | {entry.name for entry in graph.output}
    nodes = [node for node in graph.node if node.op_type != "Cast" or node.output[0] in used]
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in _outer_inputs(node)} | used
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


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
    _drop_unread(model)


def _sort_nodes(model: ModelProto) -> None:
    """Bring the nodes into an order of execution, in place: the standard asks for one, and the converters append."""
    graph = model.graph
    known = {"", *(entry.name for entry in graph.input), *(tensor.name for tensor in graph.initializer)}
    waiting, ordered = list(graph.node), list[NodeProto]()
    while waiting:
        ready = [node for node in waiting if all(name in known for name in _outer_inputs(node))]
        if not ready:
            raise ExportError(
                f"an ONNX graph must have an order of execution, but {waiting[0].name!r} waits for itself"
            )
        ordered += ready
        known.update(name for node in ready for name in node.output)
        waiting = [node for node in waiting if node not in ready]
    del graph.node[:]
    graph.node.extend(ordered)


def _outer_inputs(node: NodeProto) -> set[str]:
    """Tensors that a node reads, those read by graphs inside it included, without what these compute themselves."""
    names = set(node.input)
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            own = {name for n in inner.node for name in n.output} | {t.name for t in inner.initializer}
            own |= {entry.name for entry in inner.input}
            names |= {name for n in inner.node for name in _outer_inputs(n)} - own
    return names


def _copy_metadata(source: ModelProto, target: ModelProto) -> None:
    del target.metadata_props[:]
    target.metadata_props.extend(source.metadata_props)
    target.producer_name, target.producer_version = source.producer_name, source.producer_version


@contextmanager
def _as_export_error(what: str) -> Iterator[None]:
    """Turn the exceptions of onnx and ONNX Runtime, which share no base, into one line."""
    try:
        yield
    except Exception as error:
        raise ExportError(f"{what} in ONNX Runtime, but does not: {one_line(error)}") from error


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
