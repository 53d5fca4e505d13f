"""Where the nodes and weights of one ONNX graph are written down, under names that a graph may hold.

Opset 17 on purpose: TensorRT 8.6 reads it as well as TensorRT 11 and ONNX Runtime.
"""

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import helper, numpy_helper

OPSET = 17
IR_VERSION = 8

Array = npt.NDArray[Any]


class GraphBuilder:
    """Collects nodes and initialisers of one ONNX graph.

    A value (a tensor in the graph) is named after the module that makes it. `half` holds the values in float16:
    what is computed from such a value is float16 too, and constants follow (`constant(like=...)`). `opset` goes up
    where an operation needs it.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.float16_values: set[str] = set()
        self.opset = OPSET

    def add_node(self, op_type: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """Add a node; its output carries its name, which is returned."""
        self.nodes.append(helper.make_node(op_type, inputs, [name], name=name, **attributes))
        if op_type not in ("QuantizeLinear", "DequantizeLinear", "Cast") and any(
            i in self.float16_values for i in inputs
        ):
            self.float16_values.add(name)
        return name

    def add_constant(self, name: str, array: Array, *, dtype_like: str | None = None) -> str:
        """Add an initialiser, stored in float16 if the value `dtype_like` is."""
        if dtype_like in self.float16_values and array.dtype == np.float32:
            array = array.astype(np.float16)
        self.initializers[name] = numpy_helper.from_array(np.asarray(array, order="C"), name)
        return name

    def add_parameter(self, name: str, tensor: torch.Tensor, *, dtype_like: str) -> str:
        """Add a weight as an initialiser."""
        return self.add_constant(name, tensor.detach().cpu().numpy(), dtype_like=dtype_like)


def safe_name(name: str) -> str:
    """A node name of letters, digits, `_`, `.` and `/` only."""
    return re.sub(r"[^A-Za-z0-9_./]", "_", name)
