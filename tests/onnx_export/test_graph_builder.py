"""Names in an ONNX graph, and the propagation of float16."""

import numpy as np
import torch
from onnx import TensorProto, numpy_helper

from nas.onnx_export.graph_builder import GraphBuilder, safe_name


def test_float16_propagates_to_results_and_constants() -> None:
    builder = GraphBuilder()
    half = builder.add_node("Cast", ["x"], "h", to=TensorProto.FLOAT16)
    builder.float16_values.add(half)
    product = builder.add_node("Mul", [half, builder.add_parameter("w", torch.ones(2, 3).T, dtype_like=half)], "y")
    back = builder.add_node("Cast", [product], "z", to=TensorProto.FLOAT)
    builder.add_parameter("v", torch.ones(2), dtype_like=back)
    builder.add_constant("axes", np.array([1, 2]), dtype_like=half)
    assert builder.float16_values == {"h", "y"}
    stored = {name: numpy_helper.to_array(tensor).dtype for name, tensor in builder.initializers.items()}
    assert stored == {"w": np.float16, "v": np.float32, "axes": np.int64}
    assert [node.name for node in builder.nodes] == [node.output[0] for node in builder.nodes] == ["h", "y", "z"]


def test_a_transposed_weight_is_stored_in_its_logical_order() -> None:
    builder, weight = GraphBuilder(), torch.arange(6.0).view(2, 3).T
    builder.add_parameter("w", weight, dtype_like="x")
    np.testing.assert_array_equal(numpy_helper.to_array(builder.initializers["w"]), weight.numpy())


def test_names_are_sanitised() -> None:
    assert safe_name("stage1.cell0/a b:c-d_e") == "stage1.cell0/a_b_c_d_e"
