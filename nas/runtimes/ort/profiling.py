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

from nas.runtimes.base import Step
from nas.runtimes.ort.session import CPU, cpu_options, node_events, profiled

_WEIGHT_AT = {"Conv": 1, "FusedConv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1, "QLinearConv": 3, "QGemm": 3}
RUNS = 12  # under the profiler; the least time of a node is what other work lengthens least
_BITS = {"float": 32, "float16": 16, "double": 64, "int8": 8, "uint8": 8, "int32": 32, "int64": 64, "bool": 8}


def executed(model: Path, input_shape: tuple[int, int, int]) -> tuple[Step, ...]:
    """The nodes in order of execution.

    Raises:
        MeasureError: the file is refused.
    """
    with tempfile.TemporaryDirectory(prefix="fer-nas-") as folder:
        options = cpu_options(1)
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        events = profiled(model, options, CPU, input_shape, runs=RUNS)
        graph = onnx.load(options.optimized_model_filepath).graph
    constants = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    found: dict[str, Mapping[str, Any]] = {}
    least: dict[str, float] = {}
    for name, args, us in node_events(events):
        found.setdefault(name, args)
        least[name] = min(us, least.get(name, us))
    nodes = _nodes([(name, str(args["op_name"])) for name, args in found.items()], graph.node)
    return tuple(
        _step(name, args, node, constants, least[name]) for (name, args), node in zip(found.items(), nodes, strict=True)
    )


def _nodes(executed: Sequence[tuple[str, str]], nodes: Iterable[NodeProto]) -> list[NodeProto | None]:
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


def _step(
    name: str, args: Mapping[str, Any], node: NodeProto | None, constants: Mapping[str, tuple[int, ...]], us: float
) -> Step:
    """One executed node; `node` is None for what was expanded after the graph was written, which has no weights."""
    operator = str(args["op_name"])
    domain = node.domain.rpartition(".")[2] if node is not None else ""
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute} if node is not None else {}
    at = _WEIGHT_AT.get(operator)
    weight = constants.get(node.input[at], ()) if node is not None and at is not None else ()
    kind, shape = _tensor(args["output_type_shape"])
    return Step(
        name=name,
        operator=f"{domain}.{operator}" if domain == "nchwc" else operator,
        activation=attributes.get("activation", b"").decode(),
        input_shape=_tensor(args["input_type_shape"])[1],
        output_shape=shape,
        weight_shape=weight,
        has_channels_last=bool(attributes.get("channels_last", 0)),
        output_bits=_BITS.get(kind, 32),
        input_bytes=int(args["activation_size"]),
        weight_bytes=int(args["parameter_size"]),
        output_bytes=int(args["output_size"]),
        us=us,
    )


def _tensor(entries: list[dict[str, list[int]]]) -> tuple[str, tuple[int, ...]]:
    """Type and shape of the first of the profiler's tensors."""
    if not entries:
        return "float", ()
    ((kind, shape),) = entries[0].items()
    return kind, tuple(shape)
