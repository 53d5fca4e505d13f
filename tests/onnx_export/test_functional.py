"""Modules for functions: each computes what the function did; a function without a module is rejected by name."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.errors import ExportError
from nas.onnx_export.folding import trace

MAP = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu, "relu6": F.relu6, "silu": F.silu, "gelu": F.gelu, "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid, "sigmoid": torch.sigmoid, "method": lambda x: x.relu().sigmoid(),
    "max_pool": lambda x: F.max_pool2d(x, 3, 2, 1), "max_pool_ceil": lambda x: F.max_pool2d(x, 4, ceil_mode=True),
    "avg_pool": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "dropout": lambda x: F.dropout(x, 0.5, training=False), "softmax": lambda x: F.softmax(x, dim=1),
    "log_softmax": lambda x: x.log_softmax(-3 + 4), "view": lambda x: x.view(x.size(0), -1),
    "view_shape": lambda x: x.view(x.shape[0], -1), "reshape": lambda x: x.reshape(-1, 4 * 6 * 6),
    "squeeze": lambda x: x.mean((2, 3), keepdim=True).squeeze(-1).squeeze(-1),
    "arithmetic": lambda x: (x - 0.5) / 2.0 * 3 + 1,
}  # fmt: skip


class Calls(nn.Module):
    """A net that calls one function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_becomes_a_module_that_computes_the_same(name: str) -> None:
    net = Calls(FUNCTIONS[name]).eval()
    graph = trace(net).eval()
    assert {node.op for node in graph.graph.nodes} == {"placeholder", "call_module", "output"}
    torch.testing.assert_close(graph(MAP), net(MAP))


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: torch.fft.rfft(x), "fft_rfft"),
        (lambda x: F.max_pool2d(x, 2, return_indices=True)[0], "max_pool2d"),
        (lambda x: x.view(2, 4, 36), "view"),
        (lambda x: F.gelu(x, approximate="tanh"), "gelu"),
        (lambda x: x * x.size(1), "mul|size"),
    ],
)
def test_a_function_without_a_module_is_rejected_by_name(function: Callable[[Tensor], Tensor], name: str) -> None:
    with pytest.raises(ExportError, match=f"must use modules, but '[a-z_0-9]*({name})[a-z_0-9]*' calls"):
        trace(Calls(function))
