"""Interpreter that passes the value of every node of a traced graph to a function, which may replace it.

It serves every pass that observes or changes values in a graph: shapes for the export, ranges for calibration, values
for the parity gate, float16 rounding. torch's own `fx.passes.shape_prop.ShapeProp` records shapes only.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, fx

NodeCallback = Callable[[fx.Node, Any], Any]
"""(node, its value) to the value that its readers get."""


class CallbackInterpreter(fx.Interpreter):
    """Runs a graph node by node.

    Args:
        graph: the graph; it is not changed.
        on_node: called once for each node, in order of execution. Its result replaces the node's value.
    """

    def __init__(self, graph: fx.GraphModule, on_node: NodeCallback) -> None:
        super().__init__(graph)
        self._on_node = on_node

    def run_node(self, n: fx.Node) -> Any:
        """Compute one node and pass its value through the callback."""
        return self._on_node(n, super().run_node(n))


def run_with_callback(graph: fx.GraphModule, x: Tensor, on_node: NodeCallback) -> Tensor:
    """Output of the graph for the input x, every node's value having passed through `on_node`."""
    output: Tensor = CallbackInterpreter(graph, on_node).run(x)
    return output
