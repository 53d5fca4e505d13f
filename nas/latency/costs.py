"""What a file costs, read off its ONNX graph: multiply-accumulates, bytes and kernels after fusion, at batch 1.

A kernel is what a runtime launches once. Fusion follows what TensorRT documents ("Types of Fusions" in its developer
guide) and ONNX Runtime does: a convolution takes in its bias, batch normalisation, ReLU-like activation and one
residual addition; chains of element-wise operators are one kernel. Hard-swish, SiLU and sigmoid after a convolution are
not on that list, so they count as an element-wise kernel; a concatenation is a copy kernel; squeeze-and-excitation is
four. Q/DQ pairs, casts and reshapes are no kernels: they are done while a neighbour loads or stores. No fusion reaches
across Q/DQ.
"""

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, numpy_helper

from nas.errors import ExportError
from nas.latency.onnx_graph import WEIGHTED_OPS, ResolvedGraph

PACK_LEVEL = 9
CONV_KINDS = frozenset({"conv", "pointwise", "depthwise", "grouped", "linear"})

_EPILOGUE_OPS = frozenset({"Relu", "Clip", "LeakyRelu", "PRelu", "BatchNormalization"})
_KIND_BY_OP = {
    "Concat": "concat",
    "Split": "concat",
    "Slice": "concat",
    "Gather": "concat",
    "Pad": "concat",
    "Resize": "resize",
    "MaxPool": "pool",
    "AveragePool": "pool",
    "GlobalAveragePool": "reduce",
    "GlobalMaxPool": "reduce",
    "ReduceMean": "reduce",
    "ReduceSum": "reduce",
    "ReduceMax": "reduce",
    "Softmax": "reduce",
}


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One launch, for one image.

    Attributes:
        name: of the ONNX node that opens it.
        kind: conv, pointwise (1x1), depthwise, grouped, linear, pool, elementwise, concat, resize or reduce.
        macs: multiply-accumulates; 0 where the kernel only moves or compares.
        input_bytes: activations read, a fused residual among them.
        output_bytes: activations written.
        weight_bytes: weights and biases read.
        bits: width of the arithmetic: 8 where inputs and weights come from DequantizeLinear, 16 for half, else 32.
        in_channels: of the first input; 0 without weights.
        out_channels: of the output; 0 without weights.
        groups: of a convolution.
        operators: ONNX operators in it, in order.
        profiled_us: microseconds that the runtime's profiler saw it take; None where nothing looked.
    """

    name: str
    kind: str
    macs: int
    input_bytes: int
    output_bytes: int
    weight_bytes: int
    bits: int
    in_channels: int = 0
    out_channels: int = 0
    groups: int = 1
    operators: tuple[str, ...] = ()
    profiled_us: float | None = None


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Costs of one file for one image.

    Attributes:
        kernels: in the order they run.
        params: elements of all stored weights: of convolutions, linear layers, normalisations and channel-wise factors.
        nonzero_params: those of them that are not zero.
    """

    kernels: tuple[Kernel, ...]
    params: int
    nonzero_params: int

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        return sum(kernel.macs for kernel in self.kernels)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Costs":
        """The inverse of `dataclasses.asdict`, also after a JSON round trip."""
        kernels = tuple(Kernel(**{**k, "operators": tuple(k["operators"])}) for k in fields["kernels"])
        return cls(kernels=kernels, params=fields["params"], nonzero_params=fields["nonzero_params"])


def compute_costs(model: onnx.ModelProto | Path) -> Costs:
    """Read the costs off a file or a model.

    Raises:
        ExportError: the file is no ONNX file, or a tensor's shape is unknown at batch 1.
    """
    if isinstance(model, Path):
        try:
            model = onnx.load(model)
        except Exception as error:  # protobuf's DecodeError is no public name
            raise ExportError(f"{model} must be a readable ONNX file: {error}") from error
    graph = ResolvedGraph(model)
    weights = [numpy_helper.to_array(tensor) for tensor in graph.weights()]
    return Costs(
        kernels=tuple(_fuse_kernels(graph)),
        params=sum(w.size for w in weights),
        nonzero_params=sum(int(np.count_nonzero(w)) for w in weights),
    )


@dataclass
class _OpenKernel:
    """A kernel while nodes are still fused into it."""

    index: int
    node: NodeProto
    kind: str
    output_name: str
    input_bytes: int
    weight_bytes: int = 0
    macs: int = 0
    bits: int = 32
    channels: tuple[int, int, int] = (0, 0, 1)
    has_residual: bool = False
    operators: list[str] = field(default_factory=list)


def _fuse_kernels(graph: ResolvedGraph) -> Iterator[Kernel]:
    drafts: list[_OpenKernel] = []
    open_at: dict[str, _OpenKernel] = {}  # tail -> the kernel that writes it
    for node in graph.nodes:
        host = _find_fusion_target(graph, node, open_at)
        if host is None:
            host = _open_kernel(graph, node, index=len(drafts))
            drafts.append(host)
        else:
            own = open_at.pop(host.output_name)
            others = [i for i in graph.activation_inputs(node) if graph.resolve_view(i) != own.output_name]
            host.input_bytes += sum(graph.tensor_bytes(i) for i in others)
            host.has_residual |= bool(others)
        host.operators.append(node.op_type)
        host.output_name = node.output[0]
        open_at[host.output_name] = host
    for d in drafts:
        yield Kernel(
            name=d.node.name or d.node.output[0],
            kind=d.kind,
            macs=d.macs,
            input_bytes=d.input_bytes,
            output_bytes=graph.output_bytes(d.output_name),
            weight_bytes=d.weight_bytes,
            bits=d.bits,
            in_channels=d.channels[0],
            out_channels=d.channels[1],
            groups=d.channels[2],
            operators=tuple(d.operators),
        )


def _find_fusion_target(
    graph: ResolvedGraph, node: NodeProto, open_by_output: dict[str, _OpenKernel]
) -> _OpenKernel | None:
    """The kernel that takes this node in, the latest where there are two; None when it needs its own."""
    if node.op_type in WEIGHTED_OPS or node.op_type in _KIND_BY_OP:
        return None
    tails = {graph.resolve_view(i): None for i in graph.activation_inputs(node)}
    found = [
        open_by_output[t]
        for t in tails
        if t in open_by_output and graph.consumer_counts[t] == 1 and t not in graph.fusion_barriers
    ]
    convs = [d for d in found if d.kind in CONV_KINDS]
    if node.op_type in _EPILOGUE_OPS and convs:
        return convs[-1]
    if node.op_type in {"Add", "Sub", "Mul", "Div"} and convs and len(tails) == 1:
        return convs[-1]  # a factor or an offset that is constant
    if node.op_type == "Add" and len(tails) == 2:
        same = len({graph.shape(t) for t in tails}) == 1
        late = [d for d in convs if same and not d.has_residual]
        if late:
            return max(late, key=lambda d: d.index)
    chains = [d for d in found if d.kind == "elementwise"]
    return chains[-1] if chains else None


def _open_kernel(graph: ResolvedGraph, node: NodeProto, *, index: int) -> _OpenKernel:
    data = graph.activation_inputs(node)
    draft = _OpenKernel(
        index=index,
        node=node,
        kind=_KIND_BY_OP.get(node.op_type, "elementwise"),
        output_name=node.output[0],
        input_bytes=sum(graph.tensor_bytes(i) for i in dict.fromkeys(data)),
    )
    weights = [i for i in node.input if i in graph.constants]
    draft.bits = 8 * min(4, max((graph.element_bytes(i) for i in data), default=4))
    if node.op_type in WEIGHTED_OPS:
        draft.weight_bytes = sum(graph.tensor_bytes(i) for i in weights)
        draft.bits = 8 * min(4, max(graph.element_bytes(i) for i in [*data, *weights[:1]]))
        draft.kind, draft.macs, draft.channels = _kind_macs_channels(graph, node)
    return draft


def _kind_macs_channels(graph: ResolvedGraph, node: NodeProto) -> tuple[str, int, tuple[int, int, int]]:
    """Kind, multiply-accumulates, and (input channels, output channels, groups) of a weighted node."""
    outputs = math.prod(graph.shape(node.output[0]))
    if node.op_type in {"Gemm", "MatMul"}:
        swapped = any(a.name == "transA" and a.i for a in node.attribute)
        inner = graph.shape(node.input[0])[-2 if swapped else -1]
        return "linear", outputs * inner, (inner, graph.shape(node.output[0])[-1], 1)
    groups = next((a.i for a in node.attribute if a.name == "group"), 1)
    source, target = graph.shape(node.input[0])[1], graph.shape(node.output[0])[1]
    window = math.prod(graph.shape(node.input[1])[2:])
    if node.op_type == "ConvTranspose":
        macs = math.prod(graph.shape(node.input[0])) * target // groups * window
    else:
        macs = outputs * source // groups * window
    if groups == 1:
        return "pointwise" if window == 1 else "conv", macs, (source, target, groups)
    return "depthwise" if groups == source else "grouped", macs, (source, target, groups)


def packed_bytes(model: Path | onnx.ModelProto) -> int:
    """Bytes of an ONNX file, or of a model as it would be written, under zlib at level 9; about 0.1 s for 1 MB.

    This is what a zip archive, a gzip layer or an app package stores, and the one figure that zeros among the weights
    improve. Random float32 weights pack to about 93 % of their bytes, so compare packed with packed.

    Raises:
        OSError: the file cannot be read.
    """
    content = model.read_bytes() if isinstance(model, Path) else model.SerializeToString(deterministic=True)
    return len(zlib.compress(content, PACK_LEVEL))
