"""What a target executes of a file, as kernels with their costs: what a latency learned on it is a sum over.

Where the target's runtime runs on this machine and tells, this is its own graph. Elsewhere it is the graph after the
fusions that `nas.latency.costs` knows.
"""

import math
from dataclasses import replace
from pathlib import Path

from hw_profiles._base import HardwareProfile
from nas import registry
from nas.latency.costs import Costs, Kernel
from nas.runtimes.base import ExecutedNode, Runtime

_KIND_BY_OP = {
    **dict.fromkeys(("nchwc.ReorderInput", "nchwc.ReorderOutput", "Transpose"), "reorder"),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"), "view"),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear", "Cast"), "convert"),
    **dict.fromkeys(("Concat", "QLinearConcat", "Split", "Slice", "Gather", "Pad"), "concat"),
    **dict.fromkeys(("MaxPool", "AveragePool", "NhwcMaxPool", "QLinearAveragePool"), "pool"),
    **dict.fromkeys(("nchwc.MaxPool", "nchwc.AveragePool"), "pool"),
    **dict.fromkeys(("GlobalAveragePool", "nchwc.GlobalAveragePool", "QLinearGlobalAveragePool"), "reduce"),
    **dict.fromkeys(("GlobalMaxPool", "nchwc.GlobalMaxPool", "ReduceMean", "ReduceSum", "Softmax"), "reduce"),
    **dict.fromkeys(("Resize", "nchwc.Upsample"), "resize"),
}


def executed_costs(
    path: Path, file_costs: Costs, profile: HardwareProfile, *, input_shape: tuple[int, int, int]
) -> Costs:
    """What a file costs on a target.

    Args:
        path: the file.
        file_costs: its costs by `nas.latency.costs`.
        profile: the target.
        input_shape: (C, H, W) of the file's input.

    Raises:
        MeasureError: the runtime refuses the file.
    """
    if not profile.local:
        return file_costs
    runtime: Runtime = registry.load("runtime", profile.runtime)
    steps = runtime.executed_nodes(path, input_shape=input_shape)
    return file_costs if steps is None else replace(file_costs, kernels=tuple(map(kernel_from_node, steps)))


def kernel_from_node(node: ExecutedNode) -> Kernel:
    """An executed node as a kernel. A convolution that is not in the blocked layout has "unblocked" for its kind."""
    kind, macs, channels = _kind_macs_channels(node) if node.weight_shape else ("", 0, (0, 0, 1))
    if not kind:
        kind = _KIND_BY_OP.get(node.op_type, "elementwise")
    is_integer = node.op_type.startswith("Q")
    return Kernel(
        name=node.name,
        kind=kind,
        macs=macs,
        input_bytes=node.input_bytes,
        output_bytes=node.output_bytes,
        weight_bytes=node.weight_bytes,
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
    target, each, *window = node.weight_shape
    source = node.input_shape[-1 if node.is_channels_last else 1]
    groups = max(1, source // each)
    macs = outputs * each * math.prod(window)
    if node.op_type in {"Conv", "FusedConv", "ConvTranspose"}:
        return "unblocked", macs, (source, target, groups)
    if groups > 1:
        return "depthwise" if each == 1 else "grouped", macs, (source, target, groups)
    return "pointwise" if math.prod(window) == 1 else "conv", macs, (source, target, groups)
