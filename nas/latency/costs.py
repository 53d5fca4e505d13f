"""Costs of an ONNX file at batch 1: multiply-accumulates, bytes, memory and kernels after fusion, read off its graph.

A kernel is one launch of the runtime. The fusion rules follow TensorRT's documentation ("Types of Fusions" in its
developer guide) and ONNX Runtime:

- a convolution takes in its bias, batch normalisation, a ReLU-like activation and one residual addition;
- a chain of element-wise operators is one kernel;
- hard-swish, SiLU and sigmoid after a convolution are not on TensorRT's list, so they are an element-wise kernel;
- a concatenation is a copy kernel, and squeeze-and-excitation is four kernels;
- Q/DQ pairs, casts and reshapes are no kernels: a neighbour does them while it loads or stores;
- no fusion reaches across Q/DQ.
"""

import math
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, numpy_helper

from nas.errors import ExportError, NasError, one_line
from nas.latency.memory import KernelTensors, Memory, compute_memory
from nas.latency.onnx_graph import WEIGHTED_OPS, ResolvedGraph
from nas.onnx_export.input_rewrite import at_network_size
from nas.runtimes.onnx_input import load_external_weights, read_onnx_model

PACK_LEVEL = 9
"""zlib's strongest level: the figure must not depend on how a packer was configured."""
CONV_KINDS = frozenset({"conv", "pointwise", "depthwise", "grouped", "linear"})

_EPILOGUE_OPS = frozenset({"Relu", "Clip", "LeakyRelu", "PRelu", "BatchNormalization"})
KIND_BY_OP = {
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
    """One launch for one image.

    Attributes:
        name: name of its first ONNX node.
        kind: conv, pointwise (1x1), depthwise, grouped, linear, pool, elementwise, concat, resize or reduce.
        macs: multiply-accumulates; 0 where the kernel only moves or compares.
        input_bytes: activations read, including a fused residual.
        output_bytes: activations written.
        weight_bytes: weights and biases read.
        bits: width of the arithmetic: 8 where inputs and weights come from DequantizeLinear, 16 for FP16, else 32.
        in_channels: channels of the first input; 0 without weights.
        out_channels: channels of the output; 0 without weights.
        groups: groups of a convolution.
        operators: its ONNX operators, in order.
        profiled_us: microseconds by the runtime's profiler; None where it was not profiled.
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
        kernels: in order of execution.
        params: elements of all weights: of convolutions, linear layers, normalisations and channel-wise factors.
        nonzero_params: how many of these are not zero.
        memory: of weights and activations; None for costs that were not read off a file.
    """

    kernels: tuple[Kernel, ...]
    params: int
    nonzero_params: int
    memory: Memory | None = None

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        return sum(kernel.macs for kernel in self.kernels)

    @property
    def activation_bytes(self) -> int | None:
        """Activations that are alive at once, at their peak; None where the file was not read."""
        return self.memory.activation_bytes if self.memory else None

    @property
    def memory_bytes(self) -> int | None:
        """Weights and activations of one inference; None where the file was not read."""
        return self.memory.total_bytes if self.memory else None

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Costs":
        """The inverse of `dataclasses.asdict` without the memory, also after a JSON round trip."""
        kernels = tuple(Kernel(**{**k, "operators": tuple(k["operators"])}) for k in fields["kernels"])
        return cls(kernels=kernels, params=fields["params"], nonzero_params=fields["nonzero_params"])


def compute_costs(model: onnx.ModelProto | Path) -> Costs:
    """Read the costs off a file or a model; of one that takes pictures of any size, at the size of its network.

    Raises:
        ExportError: the file is no ONNX file, the shape of a tensor is unknown at batch 1, or its shapes and weights
            do not fit.
    """
    try:
        return _compute_costs(model)
    except NasError:
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError, RuntimeError) as error:  # a graph at odds with itself
        name = model if isinstance(model, Path) else "the model"
        raise ExportError(
            f"{name} must have shapes that fit, but has not: {one_line(error)}; export it again"
        ) from None


def _compute_costs(model: onnx.ModelProto | Path) -> Costs:
    if isinstance(model, Path):
        try:
            content = read_onnx_model(model)
            load_external_weights(content, model.parent)
        except (OSError, ValueError) as error:
            raise ExportError(
                f"{model} must be an ONNX file, but cannot be read as one: {one_line(error)}; export it again"
            ) from None
        model = content
    graph = ResolvedGraph(at_network_size(model))
    weights = [numpy_helper.to_array(tensor) for tensor in graph.weights()]
    fused = _fuse_kernels(graph)
    return Costs(
        kernels=tuple(_to_kernel(graph, kernel) for kernel in fused),
        params=sum(w.size for w in weights),
        nonzero_params=sum(int(np.count_nonzero(w)) for w in weights),
        memory=compute_memory(graph, [_to_tensors(each) for each in sorted(fused, key=lambda each: each.last_node)]),
    )


@dataclass
class _OpenKernel:
    """A kernel that may still take in nodes; `channels` are (input channels, output channels, groups)."""

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
    reads: list[str] = field(default_factory=list)  # resolved names of the activations
    writes: tuple[str, ...] = ()
    last_node: int = 0  # its place in the file; the kernel can run once this node could


def _fuse_kernels(graph: ResolvedGraph) -> list[_OpenKernel]:
    """Kernels in order of their first nodes: each node joins an open kernel or opens its own."""
    kernels: list[_OpenKernel] = []
    open_by_output: dict[str, _OpenKernel] = {}  # by the tensor that the kernel writes so far
    for at, node in enumerate(graph.nodes):
        kernel = _find_fusion_target(graph, node, open_by_output)
        if kernel is None:
            kernel = _open_kernel(graph, node, index=len(kernels))
            kernels.append(kernel)
        else:
            del open_by_output[kernel.output_name]
            # The intermediate stays in registers; what else the node reads, a residual, comes from memory.
            others = [i for i in graph.activation_inputs(node) if graph.resolve_view(i) != kernel.output_name]
            kernel.input_bytes += sum(graph.tensor_bytes(i) for i in others)
            kernel.reads += map(graph.resolve_view, others)
            kernel.has_residual |= bool(others)
        kernel.writes, kernel.last_node = tuple(name for name in node.output if name), at
        kernel.operators.append(node.op_type)
        kernel.output_name = node.output[0]
        open_by_output[kernel.output_name] = kernel
    return kernels


def _to_kernel(graph: ResolvedGraph, kernel: _OpenKernel) -> Kernel:
    return Kernel(
        name=kernel.node.name or kernel.node.output[0],
        kind=kernel.kind,
        macs=kernel.macs,
        input_bytes=kernel.input_bytes,
        output_bytes=graph.output_bytes(kernel.output_name),
        weight_bytes=kernel.weight_bytes,
        bits=kernel.bits,
        in_channels=kernel.channels[0],
        out_channels=kernel.channels[1],
        groups=kernel.channels[2],
        operators=tuple(kernel.operators),
    )


def _to_tensors(kernel: _OpenKernel) -> KernelTensors:
    name, operators = kernel.node.name or kernel.node.output[0], tuple(kernel.operators)
    return KernelTensors(name=name, operators=operators, reads=tuple(kernel.reads), writes=kernel.writes)


def _find_fusion_target(
    graph: ResolvedGraph, node: NodeProto, open_by_output: dict[str, _OpenKernel]
) -> _OpenKernel | None:
    """The kernel that takes a node in, the later where two could; None where the node needs its own."""
    if node.op_type in WEIGHTED_OPS or node.op_type in KIND_BY_OP:
        return None
    sources = {graph.resolve_view(i): None for i in graph.activation_inputs(node)}  # a set in order
    # A tensor that something else reads too must be written, so its kernel ends there.
    candidates = [
        open_by_output[name]
        for name in sources
        if name in open_by_output and graph.consumer_counts[name] == 1 and name not in graph.fusion_barriers
    ]
    convs = [kernel for kernel in candidates if kernel.kind in CONV_KINDS]
    if node.op_type in _EPILOGUE_OPS and convs:
        return convs[-1]
    if node.op_type in {"Add", "Sub", "Mul", "Div"} and convs and len(sources) == 1:
        return convs[-1]  # the other operand is a constant factor or offset
    if node.op_type == "Add" and len(sources) == 2:
        same = len({graph.shape(name) for name in sources}) == 1  # a broadcast is no residual
        late = [kernel for kernel in convs if same and not kernel.has_residual]
        if late:  # of two branches the later one adds, as the other has finished by then
            return max(late, key=lambda kernel: kernel.index)
    chains = [kernel for kernel in candidates if kernel.kind == "elementwise"]
    return chains[-1] if chains else None


def _open_kernel(graph: ResolvedGraph, node: NodeProto, *, index: int) -> _OpenKernel:
    """A kernel of one node."""
    data = graph.activation_inputs(node)
    kernel = _OpenKernel(
        index=index,
        node=node,
        kind=KIND_BY_OP.get(node.op_type, "elementwise"),
        output_name=node.output[0],
        input_bytes=sum(graph.tensor_bytes(i) for i in dict.fromkeys(data)),
        reads=[graph.resolve_view(i) for i in data],
    )
    weights = [i for i in node.input if i in graph.constants]
    # The widest operand decides the arithmetic; 64-bit integers (shapes) count as 32.
    kernel.bits = 8 * min(4, max((graph.element_bytes(i) for i in data), default=4))
    if node.op_type in WEIGHTED_OPS:
        kernel.weight_bytes = sum(graph.tensor_bytes(i) for i in weights)
        # The first constant is the weight; a bias stays at 32 bits in an INT8 convolution.
        kernel.bits = 8 * min(4, max(graph.element_bytes(i) for i in [*data, *weights[:1]]))
        kernel.kind, kernel.macs, kernel.channels = _kind_macs_channels(graph, node)
    return kernel


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
    if node.op_type == "ConvTranspose":  # each input element meets the whole window
        macs = math.prod(graph.shape(node.input[0])) * target // groups * window
    else:
        macs = outputs * source // groups * window
    return conv_kind(in_channels=source, groups=groups, window=window), macs, (source, target, groups)


def conv_kind(*, in_channels: int, groups: int, window: int) -> str:
    """Kind of a convolution: pointwise, conv, depthwise or grouped. `window` is the number of its positions."""
    if groups == 1:
        return "pointwise" if window == 1 else "conv"
    return "depthwise" if groups == in_channels else "grouped"


def packed_bytes(model: Path | onnx.ModelProto) -> int:
    """Bytes of an ONNX file, or of a model as it would be written, after zlib at level 9; about 0.1 s for 1 MB.

    This is what a zip archive, a gzip layer or an app package stores, and the only size that zeros among the weights
    reduce. Random FP32 weights pack to about 93 % of their bytes, so compare packed sizes with packed sizes only.

    Raises:
        OSError: the file cannot be read.
    """
    content = model.read_bytes() if isinstance(model, Path) else model.SerializeToString(deterministic=True)
    return len(zlib.compress(content, PACK_LEVEL))
