"""Workload: fused layers of networks small enough to count by hand."""

import pytest
from torch import Tensor, nn

from search_spaces._leaf import Add
from search_spaces._work import WORKLOAD_FIELDS, Layer, sum_workloads, trace_layers

SHAPE = (4, 8, 8)


class Sum(nn.Module):
    """The sum of two branches, then an activation; the first branch is read once more where `again`."""

    def __init__(
        self, first: nn.Module, second: nn.Module, act: nn.Module | None = None, *, again: bool = False
    ) -> None:
        super().__init__()
        self.first, self.second, self.add, self.act, self.again = first, second, Add(), act or nn.Identity(), again
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        """Shape [N, C, H, W]."""
        first = self.first(x)
        found: Tensor = self.act(self.add(first, self.second(x)))
        return found + self.pool(first) if self.again else found


def conv() -> nn.Module:
    """Convolution, batch norm and ReLU."""
    return nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())


def pool() -> nn.Module:
    return nn.MaxPool2d(3, 1, padding=1)


def kernels(net: nn.Module) -> tuple[int, int, int]:
    """Numbers of kernels with weights, of memory-bound kernels, and of fused layers."""
    layers: list[Layer] = trace_layers(net.eval(), SHAPE)
    work = dict(zip(WORKLOAD_FIELDS, sum_workloads(layer.workload for layer in layers), strict=True))
    return work["dense"] + work["pointwise"] + work["depthwise"], work["moving"], work["joined"]


@pytest.mark.parametrize(
    ("net", "found"),
    [
        (nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 1)), (2, 0, 0)),
        (nn.Sequential(nn.Conv2d(4, 4, 1), nn.Hardswish(), nn.Conv2d(4, 4, 1)), (2, 1, 0)),
        (
            nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1)),
            (1, 1, 0),
        ),  # elementwise layers before the convolution
        (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), (2, 1, 0)),
        (Sum(conv(), pool()), (1, 1, 1)),
        (Sum(conv(), conv(), nn.ReLU()), (2, 0, 1)),
        (Sum(pool(), pool()), (0, 3, 0)),
        (Sum(nn.Sequential(pool(), nn.Sigmoid()), pool()), (0, 3, 1)),
        (Sum(conv(), pool(), again=True), (1, 3, 0)),  # the output of the convolution has a second reader
        (Sum(Sum(conv(), pool()), pool()), (1, 3, 1)),  # one sum is fused into a convolution
        (Sum(Sum(conv(), pool()), conv()), (2, 1, 2)),
        (Sum(nn.Identity(), conv()), (1, 0, 1)),
    ],
)
def test_kernels_are_counted_as_a_runtime_fuses_them(net: nn.Module, found: tuple[int, int, int]) -> None:
    assert kernels(net) == found


def test_a_fused_sum_adds_the_map_that_it_reads() -> None:
    whole, alone = (trace_layers(net.eval(), SHAPE) for net in (Sum(conv(), nn.Identity()), conv()))
    assert sum_workloads(layer.workload for layer in whole)[WORKLOAD_FIELDS.index("moved")] == 4 * 8 * 8
    assert sum_workloads(layer.workload for layer in alone)[WORKLOAD_FIELDS.index("moved")] == 0
