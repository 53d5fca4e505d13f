"""Kernels of layers against those counted in their file, and the layers for which a chain is faster."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from nas.compression.low_rank.cost_check import (
    DEFAULT_LATENCY_MODEL,
    input_map_sizes,
    is_faster_factorized,
    layer_kernels,
)
from nas.latency.costs import compute_costs
from nas.onnx_export.exporter import export_onnx
from nas.onnx_export.folding import fold
from nas.targets.catalog import load_target
from tests.random_nets import CLASSES, SHAPE, SPACES, random_net

CPU, JETSON = load_target("cpu"), load_target("jetson")


class Chain(nn.Module):
    """The layers in a row, then a head; nothing in it fuses."""

    def __init__(self, *layers: nn.Module, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, len(CLASSES)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.body(x))
        return logits


def test_kernels_are_those_of_the_file(tmp_path: Path) -> None:
    layers = [
        nn.Conv2d(1, 16, 5, stride=2, padding=1, bias=False),
        nn.Conv2d(16, 16, 3, groups=16, padding="same", bias=False),
        nn.Conv2d(16, 24, 1, bias=False),
        nn.Conv2d(24, 8, 3, dilation=2, bias=False),
        nn.Conv2d(8, 8, 3, groups=2, stride=3, bias=False),
    ]
    graph = fold(Chain(*layers, width=8), input_shape=SHAPE)
    file = export_onnx(graph, tmp_path / "m.onnx", input_shape=SHAPE, classes=CLASSES, metadata={})
    counted = compute_costs(file.path).kernels[: len(layers)]
    kernels = layer_kernels(layers, (SHAPE[1], SHAPE[2]), replace(CPU, precisions=(32,)))
    expected = [replace(kernel, name="", operators=()) for kernel in counted]
    assert kernels == expected


@pytest.mark.parametrize("space_name", SPACES)
def test_map_sizes_are_those_of_the_layer_inputs(space_name: str) -> None:
    net = random_net(space_name, seed=1, attention="se").net.train()
    sizes = input_map_sizes(net, SHAPE)
    assert net.training
    layers = {name: m for name, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    assert set(sizes) == set(layers)
    assert sizes["stem.conv"] == (40, 40)
    assert all(sizes[name] == (1, 1) for name, m in layers.items() if isinstance(m, nn.Linear))


def split(width: int, rank: int) -> list[nn.Module]:
    return [nn.Conv2d(width, rank, 1, bias=False), nn.Conv2d(rank, width, 1, bias=False)]


def test_more_multiply_accumulates_are_never_accepted() -> None:
    full = nn.Conv2d(64, 64, 1)
    free = replace(CPU, latency=replace(DEFAULT_LATENCY_MODEL, floor_us=0.0))
    assert is_faster_factorized(full, split(64, 24), (24, 24), free)
    assert not is_faster_factorized(full, split(64, 31), (24, 24), free)  # fewer, but padded to 32 they are as many
    assert not is_faster_factorized(full, split(64, 32), (24, 24), free)


def test_more_weights_are_rejected_even_if_predicted_faster() -> None:
    rates = {"conv": 0.01, "pointwise": 1.0}
    slow = replace(CPU, bandwidth_gb_s=1e6, latency=replace(DEFAULT_LATENCY_MODEL, floor_us=0.0, efficiency=rates))
    full = nn.Conv2d(8, 8, 3, padding=1)
    assert is_faster_factorized(full, split(8, 32), (24, 24), slow)  # 512 multiply-accumulates a pixel instead of 576
    assert not is_faster_factorized(full, split(8, 40), (24, 24), slow)  # 640


def test_a_launch_floor_of_twice_the_layers_time_is_rejected() -> None:
    full = nn.Conv2d(64, 64, 1)
    assert is_faster_factorized(
        full, split(64, 16), (24, 24), replace(CPU, latency=replace(DEFAULT_LATENCY_MODEL, floor_us=1.0))
    )
    assert not is_faster_factorized(
        full, split(64, 16), (24, 24), replace(CPU, latency=replace(DEFAULT_LATENCY_MODEL, floor_us=1000.0))
    )


def test_small_layers_are_faster_on_a_cpu_only_large_ones_on_a_gpu() -> None:
    def both(width: int) -> tuple[nn.Module, list[nn.Module]]:
        rank = width // 4
        core = nn.Conv2d(rank, rank, 3, padding=1)
        return nn.Conv2d(width, width, 3, padding=1), [nn.Conv2d(width, rank, 1), core, nn.Conv2d(rank, width, 1)]

    assert CPU.latency is None
    assert is_faster_factorized(*both(64), (12, 12), CPU)
    assert not is_faster_factorized(*both(64), (12, 12), JETSON)
    assert is_faster_factorized(*both(256), (64, 64), JETSON)
