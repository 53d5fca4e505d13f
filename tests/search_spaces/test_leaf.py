"""Leaf modules: their values, and one node each in a trace."""

import pytest
import torch
from torch import Tensor, nn

from search_spaces._leaf import Add, Concat, Leaf, Normalise, Scale, SwapAxes

X, Y = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
GATE = torch.rand(2, 3, 1, 1)


class _Calls(nn.Module):
    """Calls one leaf inside a child, so that its name in the trace has two parts."""

    def __init__(self, leaf: Leaf, inputs: int) -> None:
        super().__init__()
        self.part = nn.ModuleList([leaf])
        self.inputs = inputs

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        result: Tensor = self.part[0](*(x, y)[: self.inputs])
        return result


@pytest.mark.parametrize(
    ("leaf", "inputs", "expected"),
    [
        (Add(), (X, Y), X + Y),
        (Concat(), (X, Y), torch.cat([X, Y], 1)),
        (Scale(), (X, GATE), X * GATE.expand_as(X)),
        (SwapAxes(), (X,), X.permute(0, 2, 1, 3)),
        (Normalise(mean=2.0, std=4.0), (X,), X / 4 - 0.5),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Leaf) else "",
)
def test_a_leaf_is_one_node_and_computes_the_same_traced(
    leaf: Leaf, inputs: tuple[Tensor, ...], expected: Tensor
) -> None:
    assert torch.allclose(leaf(*inputs), expected, atol=1e-6)
    traced = torch.fx.symbolic_trace(_Calls(leaf, len(inputs)))
    assert [str(node.target) for node in traced.graph.nodes if node.op == "call_module"] == ["part.0"]
    assert torch.equal(traced(inputs[0], inputs[-1]), leaf(*inputs))
