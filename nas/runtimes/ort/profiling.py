"""What ONNX Runtime executes of a file on this processor: its optimised graph, with shapes and times of profiled runs.

It differs from the file by more than fusion. Convolutions run in blocks of channels where the processor has wide
vectors, and what does not know that layout gets its tensors reordered; integer kernels want channels last, and what has
no integer form is surrounded by conversions. https://onnxruntime.ai/docs/performance/model-optimizations/graph-optimizations.html
"""

import tempfile
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import NodeProto

from nas.runtimes.base import ExecutedNode
from nas.runtimes.ort.session import CPU_PROVIDER, node_events, run_profiled, session_options

_WEIGHT_INPUT_INDEX = {
    "Conv": 1,
    "FusedConv": 1,
    "ConvTranspose": 1,
    "Gemm": 1,
    "MatMul": 1,
    "QLinearConv": 3,
    "QGemm": 3,
}
PROFILED_RUNS = 12  # under the profiler; the least time of a node is what other work lengthens least
_BITS_BY_DTYPE = {"float": 32, "float16": 16, "double": 64, "int8": 8, "uint8": 8, "int32": 32, "int64": 64, "bool": 8}


def executed_nodes(model: Path, input_shape: tuple[int, int, int]) -> tuple[ExecutedNode, ...]:
    """The nodes in order of execution.

    Raises:
        MeasureError: the file is refused.
    """
    with tempfile.TemporaryDirectory(prefix="fer-nas-") as folder:
        options = session_options(1)
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        events = run_profiled(model, options, CPU_PROVIDER, input_shape, runs=PROFILED_RUNS)
        graph = onnx.load(options.optimized_model_filepath).graph
    constants = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    found: dict[str, Mapping[str, Any]] = {}
    least: dict[str, float] = {}
    for name, args, us in node_events(events):
        found.setdefault(name, args)
        least[name] = min(us, least.get(name, us))
    nodes = _match_graph_nodes([(name, str(args["op_name"])) for name, args in found.items()], graph.node)
    return tuple(
        _to_executed_node(name, args, node, constants, least[name])
        for (name, args), node in zip(found.items(), nodes, strict=True)
    )


def _match_graph_nodes(executed: Sequence[tuple[str, str]], nodes: Iterable[NodeProto]) -> list[NodeProto | None]:
    """The graph's node for each executed (name, operator).

    The profiler makes up names for nodes without one; they are taken in the order of the graph, operator by operator.
    """
    named: dict[str, NodeProto] = {}
    nameless: dict[str, deque[NodeProto]] = {}
    for node in nodes:
        if node.name:
            named[node.name] = node
        else:
            nameless.setdefault(node.op_type, deque()).append(node)
    found: list[NodeProto | None] = []
    for name, operator in executed:
        waiting = nameless.get(operator)
        found.append(named.get(name) or (waiting.popleft() if waiting else None))
    return found


def _to_executed_node(
    name: str, args: Mapping[str, Any], node: NodeProto | None, constants: Mapping[str, tuple[int, ...]], us: float
) -> ExecutedNode:
    """One executed node; `node` is None for what was expanded after the graph was written, which has no weights."""
    operator = str(args["op_name"])
    domain = node.domain.rpartition(".")[2] if node is not None else ""
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute} if node is not None else {}
    at = _WEIGHT_INPUT_INDEX.get(operator)
    weight = constants.get(node.input[at], ()) if node is not None and at is not None else ()
    kind, shape = _dtype_and_shape(args["output_type_shape"])
    return ExecutedNode(
        name=name,
        op_type=f"{domain}.{operator}" if domain == "nchwc" else operator,
        fused_activation=attributes.get("activation", b"").decode(),
        input_shape=_dtype_and_shape(args["input_type_shape"])[1],
        output_shape=shape,
        weight_shape=weight,
        is_channels_last=bool(attributes.get("channels_last", 0)),
        output_bits=_BITS_BY_DTYPE.get(kind, 32),
        input_bytes=int(args["activation_size"]),
        weight_bytes=int(args["parameter_size"]),
        output_bytes=int(args["output_size"]),
        profiled_us=us,
    )


def _dtype_and_shape(entries: list[dict[str, list[int]]]) -> tuple[str, tuple[int, ...]]:
    """Type and shape of the first of the profiler's tensors."""
    if not entries:
        return "float", ()
    ((kind, shape),) = entries[0].items()
    return kind, tuple(shape)
