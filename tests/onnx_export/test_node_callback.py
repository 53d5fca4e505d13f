"""Interpreter with a callback: which values it passes on, and that results of the callback replace them."""

from typing import Any

import torch
from torch import Tensor, fx, nn

from nas.onnx_export.folding import trace
from nas.onnx_export.node_callback import run_with_callback

X = torch.tensor([[-2.0, 3.0]])


def chain() -> fx.GraphModule:
    return trace(nn.Sequential(nn.ReLU(), nn.Flatten()))


def test_every_node_is_passed_in_order_of_execution() -> None:
    graph, values = chain(), {}

    def record(node: fx.Node, value: Any) -> Any:
        values[node] = value
        return value

    output = run_with_callback(graph, X, record)

    assert list(values) == list(graph.graph.nodes)
    assert [value.tolist() for value in values.values()] == [X.tolist()] + 3 * [[[0, 3]]]
    assert torch.equal(output, graph(X))


def test_readers_get_the_result_of_the_callback() -> None:
    def negate_input(node: fx.Node, value: Tensor) -> Tensor:
        return -value if node.op == "placeholder" else value

    assert run_with_callback(chain(), X, negate_input).tolist() == [[2, 0]]
