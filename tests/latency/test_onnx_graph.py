"""Hand-made graphs whose shapes, views and readers are known."""

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from nas.errors import ExportError
from nas.latency.onnx_graph import ResolvedGraph


def node(kind: str, inputs: str, output: str, **attributes: object) -> NodeProto:
    return helper.make_node(kind, inputs.split(), [output], name=output, **attributes)


def resolved(*nodes: NodeProto, shape: tuple[int | str, ...] = ("N", 8, 6, 6)) -> ResolvedGraph:
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    out = onnx.ValueInfoProto(name=nodes[-1].output[0])
    out.type.tensor_type.elem_type = TensorProto.FLOAT
    stored = {"s": np.array(0.1, np.float32), "z": np.array(0, np.int8), "w": np.ones((288, 4), np.int8)}
    tensors = [numpy_helper.from_array(w, n) for n, w in stored.items()]
    graph = helper.make_graph(list(nodes), "g", [image], [out], tensors)
    return ResolvedGraph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))


def test_views_resolve_to_their_source() -> None:
    views = node("Flatten", "r", "f"), node("Identity", "f", "i")
    graph = resolved(node("Relu", "x", "r"), *views, node("Tanh", "i", "y"))
    assert [n.op_type for n in graph.nodes] == ["Relu", "Tanh"]
    assert (graph.resolve_view("i"), graph.resolve_view("f"), graph.resolve_view("x")) == ("r", "r", "x")
    assert (graph.shape("r"), graph.shape("i")) == ((1, 8, 6, 6), (1, 288))
    assert (graph.consumer_counts["x"], graph.consumer_counts["r"], graph.consumer_counts["y"]) == (1, 1, 1)


def test_tensors_behind_qdq_are_one_byte_wide_and_fusion_barriers() -> None:
    graph = resolved(
        node("Flatten", "x", "f"),
        node("QuantizeLinear", "f s z", "q"),
        node("DequantizeLinear", "q s z", "d"),
        node("DequantizeLinear", "w s z", "wd"),
        node("MatMul", "d wd", "y"),
    )
    (product,) = graph.nodes
    assert graph.fusion_barriers == {"x"}
    assert (graph.tensor_bytes("x"), graph.tensor_bytes("d"), graph.tensor_bytes("wd")) == (4 * 288, 288, 288 * 4)
    assert graph.output_bytes("x") == 288
    assert graph.activation_inputs(product) == ["d"]
    assert [t.name for t in graph.weights()] == ["w"]


def test_an_unknown_size_is_refused_at_use() -> None:
    graph = resolved(node("Relu", "x", "y"), shape=("N", 8, "H", "W"))
    with pytest.raises(ExportError, match="must be known at batch 1, but 'y' has none"):
        graph.tensor_bytes("y")
