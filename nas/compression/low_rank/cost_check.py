"""Roofline comparison of a layer with its factors: several small kernels against the one that they replace."""

import math
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from hw_profiles._base import HardwareProfile, LatencyModel
from nas.latency.costs import Kernel
from nas.latency.predicted.roofline import predict_kernel_us

MapSize = tuple[int, int]
"""Height and width of a feature map; (1, 1) for the vector that a linear layer reads."""

DEFAULT_LATENCY_MODEL = LatencyModel(
    fixed_us=0,
    floor_us=2.0,
    efficiency={"conv": 0.5, "pointwise": 0.55, "depthwise": 0.15, "linear": 0.2},
    relative_error=1.0,
    source="fitted by eye to single layers in ONNX Runtime 1.31 on one core of a Zen 4 server: benchmarks/low_rank.py",
)
"""For devices without constants of their own."""


def is_faster_factorized(
    layer: nn.Module, factor_layers: Iterable[nn.Module], map_size: MapSize, profile: HardwareProfile
) -> bool:
    """Whether the factors, run one after the other, take fewer multiply-accumulates than the layer and less time.

    Both times are predicted at the device's widest precision, so that a net and its FP32 baseline keep the same layers.

    Args:
        layer: a convolution or a linear layer.
        factor_layers: the convolutions or linear layers that would replace it, in order.
        map_size: size of the map that the layer reads.
        profile: the target device; without a latency model, `DEFAULT_LATENCY_MODEL` is used.
    """
    if profile.latency is None:
        profile = replace(profile, latency=DEFAULT_LATENCY_MODEL)
    before, after = layer_kernels([layer], map_size, profile), layer_kernels(factor_layers, map_size, profile)
    is_less = sum(kernel.macs for kernel in after) < sum(kernel.macs for kernel in before)
    return is_less and sum(predict_kernel_us(k, profile) for k in after) < sum(
        predict_kernel_us(k, profile) for k in before
    )


def layer_kernels(layers: Iterable[nn.Module], map_size: MapSize, profile: HardwareProfile) -> list[Kernel]:
    """One kernel for each convolution or linear layer of a chain.

    Args:
        layers: the chain, in order of execution.
        map_size: size of the map that the first layer reads.
        profile: the target device, for its widest precision.
    """
    kernels: list[Kernel] = []
    for layer in layers:
        kernel, map_size = _layer_kernel(layer, map_size, bits=max(profile.precisions))
        kernels.append(kernel)
    return kernels


def input_map_sizes(net: nn.Module, input_shape: tuple[int, int, int]) -> dict[str, MapSize]:
    """Size of the map that each convolution and linear layer reads, by layer name; of several calls the last counts.

    The net runs once, in eval mode, on one image.
    """
    sizes: dict[str, MapSize] = {}

    def recorder(name: str) -> object:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            size = inputs[0].shape[2:]
            sizes[name] = (int(size[0]), int(size[1])) if len(size) == 2 else (1, 1)

        return hook

    layers = [(n, m) for n, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    was_training = net.training
    handles = [module.register_forward_pre_hook(recorder(name)) for name, module in layers]  # type: ignore[arg-type]
    try:
        with torch.inference_mode():
            net.eval()(torch.zeros(1, *input_shape))
    finally:
        net.train(was_training)
        for handle in handles:
            handle.remove()
    return sizes


def _layer_kernel(layer: nn.Module, map_size: MapSize, *, bits: int) -> tuple[Kernel, MapSize]:
    """The layer's kernel on one map, and the size of the map that it writes."""
    weight = layer.get_parameter("weight")
    out, inner = weight.shape[:2]
    groups = 1
    if isinstance(layer, nn.Conv2d):
        inner, groups = layer.in_channels, layer.groups
        written, kind = _output_size(layer, map_size), _kernel_kind(layer)
    else:
        written, kind = map_size, "linear"
    kernel = Kernel(
        name="",
        kind=kind,
        macs=weight.numel() * math.prod(written),
        input_bytes=inner * math.prod(map_size) * bits // 8,
        output_bytes=out * math.prod(written) * bits // 8,
        weight_bytes=weight.numel() * bits // 8,
        bits=bits,
        in_channels=inner,
        out_channels=out,
        groups=groups,
    )
    return kernel, written


def _kernel_kind(layer: nn.Conv2d) -> str:
    if layer.groups == 1:
        return "pointwise" if layer.kernel_size == (1, 1) else "conv"
    return "depthwise" if layer.groups == layer.in_channels else "grouped"


def _output_size(layer: nn.Conv2d, map_size: MapSize) -> MapSize:
    with torch.device("meta"):
        probe = nn.Conv2d(
            1, 1, layer.kernel_size, layer.stride, layer.padding, layer.dilation  # type: ignore[arg-type]
        )  # fmt: skip
        height, width = probe(torch.empty(1, 1, *map_size)).shape[2:]
    return int(height), int(width)
