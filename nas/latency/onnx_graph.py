"""ONNX graph resolved for cost models: the shape of every tensor at batch 1, constants, and views.

Views (reshapes, casts) and Q/DQ pairs are no work of their own: a tensor behind them resolves to the one in front.
"""

import math
from collections import Counter
from collections.abc import Iterator

import onnx
from onnx import NodeProto, TensorProto, helper

from nas.errors import ExportError
from nas.runtimes.onnx_input import graph_inputs

WEIGHTED_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_VIEW_OPS = frozenset({"Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Dropout", "Cast"})
_QDQ_OPS = frozenset({"QuantizeLinear", "DequantizeLinear"})


class ResolvedGraph:
    """A graph with shapes, constants and views resolved.

    Attributes:
        image_inputs: names of the inputs that a caller gives.
        outputs: names of the graph's outputs.
        nodes: nodes that depend on the input and compute something, in order.
        initializers: stored tensors by name, those of Constant nodes included.
        tensor_info: (shape at batch 1, ONNX element type) by name, where shape inference knows it.
        constants: names of the values that do not depend on the input.
        view_of: the tensor that a name is a view of.
        qdq_outputs: names of tensors that a QuantizeLinear or DequantizeLinear writes.
        fusion_barriers: tensors that Q/DQ reads; no fusion reaches across.
        consumer_counts: how many nodes and graph outputs read a tensor, by its resolved name.
        quantised_view: for a resolved name, the quantised view of it.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.initializers = {t.name: t for t in model.graph.initializer}
        self.image_inputs = tuple(entry.name for entry in graph_inputs(model.graph))
        self.outputs = tuple(entry.name for entry in model.graph.output)
        self.tensor_info = _infer_tensor_info(model)
        self.constants = set(self.initializers)
        self.view_of: dict[str, str] = {}
        self.qdq_outputs: set[str] = set()
        self.fusion_barriers: set[str] = set()
        self.nodes: list[NodeProto] = []
        for node in model.graph.node:
            self._add_node(node)
        self.consumer_counts = Counter(self.resolve_view(i) for n in self.nodes for i in n.input if i)
        self.consumer_counts.update(self.resolve_view(o.name) for o in model.graph.output)
        self.quantised_view = {self.resolve_view(view): view for view in self.qdq_outputs}

    def _add_node(self, node: NodeProto) -> None:
        if node.op_type == "Constant":
            value = next((a.t for a in node.attribute if a.name == "value"), None)
            if value is not None:
                self.initializers[node.output[0]] = value
        if all(i in self.constants for i in node.input if i):  # also Constant nodes, which have no input
            self.constants.update(node.output)
            if node.input:  # a quantised weight resolves to the stored tensor
                self.view_of[node.output[0]] = self.resolve_view(node.input[0])
            if node.op_type in _QDQ_OPS:
                self.qdq_outputs.add(node.output[0])
        elif node.op_type in _VIEW_OPS | _QDQ_OPS:
            source = self.resolve_view(node.input[0])
            self.view_of[node.output[0]] = source
            if node.op_type in _QDQ_OPS:
                self.qdq_outputs.add(node.output[0])
                self.fusion_barriers.add(source)
        else:
            self.nodes.append(node)

    def resolve_view(self, name: str) -> str:
        """The tensor that a value is a view of; its own name where it is none."""
        return self.view_of.get(name, name)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape at batch 1.

        Raises:
            ExportError: shape inference does not know it.
        """
        info = self.tensor_info.get(name) or self.tensor_info.get(self.resolve_view(name))
        if info is None:
            raise ExportError(
                f"every tensor's shape must be known at batch 1, but {name!r} has none; fix the input's size"
            )
        return info[0]

    def element_bytes(self, name: str) -> int:
        """Bytes of one element as a runtime stores the tensor: 1 behind Q/DQ, whatever type the graph declares."""
        if name in self.qdq_outputs:
            return 1
        kind = (self.tensor_info.get(name) or ((), TensorProto.FLOAT))[1]
        return int(helper.tensor_dtype_to_np_dtype(kind).itemsize)

    def tensor_bytes(self, name: str) -> int:
        """Bytes of a tensor as its reader loads it.

        Raises:
            ExportError: as `shape`.
        """
        return math.prod(self.shape(name)) * self.element_bytes(name)

    def output_bytes(self, name: str) -> int:
        """Bytes of a tensor as its writer stores it: quantised where Q/DQ follows.

        Raises:
            ExportError: as `shape`.
        """
        return self.tensor_bytes(self.quantised_view.get(name, name))

    def activation_inputs(self, node: NodeProto) -> list[str]:
        """Inputs of a node that depend on the input of the graph."""
        return [i for i in node.input if i and i not in self.constants]

    def weights(self) -> Iterator[TensorProto]:
        """Stored weights, each once: constants of more than one element that take part in arithmetic.

        Scalars are left out: they are scales and offsets of the pre-processing, which no table counts as parameters.
        """
        arithmetic = WEIGHTED_OPS | {"BatchNormalization", "PRelu", "Mul", "Add"}
        names = {
            self.resolve_view(i): None
            for n in self.nodes
            if n.op_type in arithmetic
            for i in n.input
            if i in self.constants
        }
        for name in names:
            tensor = self.initializers.get(name)
            if tensor is not None and math.prod(tensor.dims) > 1:
                yield tensor


def _infer_tensor_info(model: onnx.ModelProto) -> dict[str, tuple[tuple[int, ...], int]]:
    """Shape at batch 1 and element type of every tensor.

    Shape inference serialises the model, so large weights are declared without their values. Tensors of up to 64
    elements keep them: shapes, axes and pads are among these, and inference needs their values.
    """
    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    light.graph.name = "light"
    light.graph.node.extend(model.graph.node)
    light.graph.input.extend(model.graph.input)
    light.graph.output.extend(model.graph.output)
    for tensor in model.graph.initializer:
        small = math.prod(tensor.dims) <= 64
        light.graph.initializer.append(
            tensor if small else TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
        )
    # Up to IR version 3 the inputs list the weights too, whose first dimension is no batch.
    stored = {tensor.name for tensor in model.graph.initializer}
    for entry in (e for e in (*light.graph.input, *light.graph.output) if e.name not in stored):
        for i, dim in enumerate(entry.type.tensor_type.shape.dim):
            if i == 0 and not dim.dim_value:
                dim.dim_value = 1
    inferred = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
    info = {t.name: (tuple(t.dims), int(t.data_type)) for t in model.graph.initializer}
    for entry in (*inferred.input, *inferred.value_info, *inferred.output):
        kind = entry.type.tensor_type
        dims = tuple(d.dim_value for d in kind.shape.dim)
        if all(dims):  # 0 stands for a dimension that is open or unknown
            info[entry.name] = (dims, kind.elem_type)
    return info
