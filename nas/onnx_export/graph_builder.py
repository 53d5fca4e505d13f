"""Builder of one ONNX graph: its nodes and initialisers, under names that ONNX allows.

The opset is 17 on purpose: TensorRT 8.6 reads it, and so do TensorRT 11 and ONNX Runtime.
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
    """Collects the nodes and initialisers of one ONNX graph.

    A value (a tensor in the graph) is named after the module that computes it.

    Attributes:
        nodes: in order of execution.
        initializers: constants by name.
        shapes: shape of each value for a batch of one image.
        float16_values: values in float16. What is computed from such a value is float16 too, and constants follow
            (`add_constant(dtype_like=...)`).
        opset: of the model; an operation that needs a newer one raises it.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.float16_values: set[str] = set()
        self.opset = OPSET

    def add_node(self, op_type: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """Add a node with one output.

        Args:
            op_type: ONNX operator.
            inputs: names of the input values.
            name: of the node and of its output.
            attributes: of the operator.

        Returns:
            `name`.
        """
        self.nodes.append(helper.make_node(op_type, inputs, [name], name=name, **attributes))
        # These three change the type; their callers say which one follows.
        if op_type not in ("QuantizeLinear", "DequantizeLinear", "Cast") and any(
            i in self.float16_values for i in inputs
        ):
            self.float16_values.add(name)
        return name

    def add_constant(self, name: str, array: Array, *, dtype_like: str | None = None) -> str:
        """Add an initialiser, stored in float16 if the value `dtype_like` is; returns its name."""
        if dtype_like in self.float16_values and array.dtype == np.float32:
            array = array.astype(np.float16)
        self.initializers[name] = numpy_helper.from_array(np.asarray(array, order="C"), name)
        return name

    def add_parameter(self, name: str, tensor: torch.Tensor, *, dtype_like: str) -> str:
        """Add a weight as an initialiser of the type of the value `dtype_like`; returns its name."""
        return self.add_constant(name, tensor.detach().cpu().numpy(), dtype_like=dtype_like)


def safe_name(name: str) -> str:
    """A node name made of letters, digits, `_`, `.` and `/` only."""
    return re.sub(r"[^A-Za-z0-9_./]", "_", name)
