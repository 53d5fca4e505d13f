"""Executed graph of ONNX Runtime on this processor: its optimised graph, with shapes and times of profiled runs.

It differs from the file by more than fusion. Convolutions run in blocks of channels where the processor has wide
vectors, and operators without that layout get their tensors reordered; integer kernels need channels last, and
operators without an integer form are surrounded by conversions.
https://onnxruntime.ai/docs/performance/model-optimizations/graph-optimizations.html
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
"""Index of the weights among the inputs of an operator."""
PROFILED_RUNS = 12
"""Runs under the profiler. The shortest time of each node counts, which other work on the machine affects least."""
_BITS_BY_DTYPE = {"float": 32, "float16": 16, "double": 64, "int8": 8, "uint8": 8, "int32": 32, "int64": 64, "bool": 8}


def executed_nodes(model: Path, input_shape: tuple[int, int, int]) -> tuple[ExecutedNode, ...]:
    """Nodes of a file in order of execution.

    Args:
        model: the ONNX file.
        input_shape: (C, H, W) of its input.

    Raises:
        MeasureError: ONNX Runtime refuses the file.
    """
    with tempfile.TemporaryDirectory(prefix="fer-nas-") as folder:
        options = session_options(1)
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        events = run_profiled(model, options, CPU_PROVIDER, input_shape, runs=PROFILED_RUNS)
        graph = onnx.load(options.optimized_model_filepath).graph
    constants = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    args_by_name: dict[str, Mapping[str, Any]] = {}
    least_us: dict[str, float] = {}
    for name, args, us in node_events(events):
        args_by_name.setdefault(name, args)
        least_us[name] = min(us, least_us.get(name, us))
    nodes = _match_graph_nodes([(name, str(args["op_name"])) for name, args in args_by_name.items()], graph.node)
    return tuple(
        _to_executed_node(name, args, node, constants, least_us[name])
        for (name, args), node in zip(args_by_name.items(), nodes, strict=True)
    )


def _match_graph_nodes(executed: Sequence[tuple[str, str]], nodes: Iterable[NodeProto]) -> list[NodeProto | None]:
    """The graph's node for each executed (name, operator); None where the graph has none left.

    The profiler invents names for nodes without one; these are matched operator by operator, in the order of the graph.
    """
    named: dict[str, NodeProto] = {}
    nameless: dict[str, deque[NodeProto]] = {}
    for node in nodes:
        if node.name:
            named[node.name] = node
        else:
            nameless.setdefault(node.op_type, deque()).append(node)
    matched: list[NodeProto | None] = []
    for name, operator in executed:
        queue = nameless.get(operator)
        matched.append(named.get(name) or (queue.popleft() if queue else None))
    return matched


def _to_executed_node(
    name: str, args: Mapping[str, Any], node: NodeProto | None, constants: Mapping[str, tuple[int, ...]], us: float
) -> ExecutedNode:
    """One executed node. `node` is None for one that was expanded after the graph was written; it has no weights."""
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
    """Type and shape of the first tensor of a profiler's entry."""
    if not entries:
        return "float", ()
    ((kind, shape),) = entries[0].items()
    return kind, tuple(shape)
