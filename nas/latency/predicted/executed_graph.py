"""Executed graph of a file on a target, as kernels with their costs: what a learned latency is a sum over.

Where the target's runtime runs on this machine and reports its graph, that graph counts. Elsewhere it is the graph
after the fusions of `nas.latency.costs`.
"""

import math
from dataclasses import replace
from pathlib import Path

from hw_profiles._base import HardwareProfile
from nas import registry
from nas.latency.costs import KIND_BY_OP, Costs, Kernel, conv_kind
from nas.runtimes.base import Backend, ExecutedNode, Runtime

_KIND_BY_EXECUTED_OP = {
    **KIND_BY_OP,
    **dict.fromkeys(("nchwc.ReorderInput", "nchwc.ReorderOutput", "Transpose"), "reorder"),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"), "view"),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear", "Cast"), "convert"),
    "QLinearConcat": "concat",
    **dict.fromkeys(("NhwcMaxPool", "QLinearAveragePool", "nchwc.MaxPool", "nchwc.AveragePool"), "pool"),
    **dict.fromkeys(("nchwc.GlobalAveragePool", "QLinearGlobalAveragePool", "nchwc.GlobalMaxPool"), "reduce"),
    "nchwc.Upsample": "resize",
}
"""Kinds of ONNX operators and of those that ONNX Runtime adds: blocked (nchwc), channels-last and integer forms."""


def executed_costs(
    path: Path, file_costs: Costs, profile: HardwareProfile, *, input_shape: tuple[int, int, int]
) -> Costs:
    """Costs of a file as a target executes it.

    Args:
        path: the file.
        file_costs: its costs by `nas.latency.costs`.
        profile: the target.
        input_shape: (C, H, W) of the file's input.

    Returns:
        `file_costs` with the executed kernels; `file_costs` itself where the target does not report them.

    Raises:
        MeasureError: the runtime refuses the file.
    """
    if not profile.local:
        return file_costs
    backend: Backend = registry.load("runtime", profile.runtime)
    nodes = backend.executed_nodes(path, input_shape=input_shape) if isinstance(backend, Runtime) else None
    return file_costs if nodes is None else replace(file_costs, kernels=tuple(map(kernel_from_node, nodes)))


def kernel_from_node(node: ExecutedNode) -> Kernel:
    """An executed node as a kernel. The kind of a convolution outside the blocked layout is "unblocked"."""
    kind, macs, channels = _kind_macs_channels(node) if node.weight_shape else ("", 0, (0, 0, 1))
    if not kind:
        kind = _KIND_BY_EXECUTED_OP.get(node.op_type, "elementwise")
    is_integer = node.op_type.startswith("Q")
    return Kernel(
        name=node.name,
        kind=kind,
        macs=macs,
        input_bytes=node.input_bytes,
        output_bytes=node.output_bytes,
        weight_bytes=node.weight_bytes,
        # An integer convolution may write 32 bits, and still computes in 8.
        bits=8 if is_integer and macs else node.output_bits if node.output_bits in (8, 16) else 32,
        in_channels=channels[0],
        out_channels=channels[1],
        groups=channels[2],
        operators=tuple(filter(None, (node.op_type, node.fused_activation))),
        profiled_us=node.profiled_us,
    )


def _kind_macs_channels(node: ExecutedNode) -> tuple[str, int, tuple[int, int, int]]:
    """Kind, multiply-accumulates, and (input channels, output channels, groups), all as they are executed."""
    outputs = math.prod(node.output_shape)
    if len(node.weight_shape) == 2:
        inner = node.input_shape[-1]
        return "linear", outputs * inner, (inner, node.output_shape[-1], 1)
    target, group_channels, *window = node.weight_shape
    source = node.input_shape[-1 if node.is_channels_last else 1]
    groups = max(1, source // group_channels)  # the blocked layout may pad the weights beyond the channels of an image
    channels = (source, target, groups)
    macs = outputs * group_channels * math.prod(window)
    if node.op_type in {"Conv", "FusedConv", "ConvTranspose"}:
        return "unblocked", macs, channels
    return conv_kind(in_channels=source, groups=groups, window=math.prod(window)), macs, channels
