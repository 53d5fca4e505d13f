"""Float16 form of an ONNX graph: chosen nodes compute in float16, between casts.

ONNX Runtime's own converter gives graphs out of order, and two nodes of one name where Q/DQ nodes stand beside them.
"""

from collections.abc import Collection

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from nas.errors import ExportError
from nas.runtimes.ort.graphs import drop_unread, sort_nodes
from nas.runtimes.ort.quantization import INTEGER_OPS

FLOAT16_OPS = INTEGER_OPS | {
    "Sub", "Div", "HardSwish", "HardSigmoid", "Elu", "Selu", "PRelu", "Softplus", "Tanh", "Erf", "Gelu", "Mish",
    "GlobalMaxPool", "ReduceMean",
}  # fmt: skip
"""Operators whose only float inputs are data and weights, which may be float16 alike."""
_FLOAT32_INPUTS = {"Resize": (1, 2)}
"""Inputs that stay in float32: region and scales of a Resize."""


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
    drop_unread(converted)
    sort_nodes(converted)
    return converted


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
