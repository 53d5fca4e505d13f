"""FP16 units: rounded weights, casts at their borders, and rounding in torch wherever ONNX Runtime rounds.

ONNX Runtime has no float16 convolution kernels for CPUs. It widens the inputs of such a layer, computes in float32, and
leaves out casts between two widened layers, also at the borders of a unit. So only the weights are rounded there, and
the values that a float16 kernel without arithmetic (`DATA_MOVEMENT_LAYERS`) moves while a neighbour is a cast or
another such kernel. TensorRT rounds the output of every kernel; `float16_logits` measures how much that changes a net.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, fx, nn

from hw_profiles._base import FLOAT16_BITS, FLOAT32_BITS
from nas.compression.quantization.calibration import Images, observe_ranges
from nas.compression.quantization.fake_quantize import PrecisionCast
from nas.errors import ExportError
from nas.onnx_export.folding import insert_after, module_of, replace_inputs, unit_name
from nas.onnx_export.graph_builder import GraphBuilder
from nas.onnx_export.node_callback import run_with_callback
from nas.onnx_export.onnx_ops import emit
from search_spaces._leaf import Concat, Leaf, SwapAxes

FLOAT16_MAX = float(np.finfo(np.float16).max)
DATA_MOVEMENT_LAYERS = (Concat, SwapAxes, nn.Flatten)
"""Layers whose kernels only move values; for these ONNX Runtime has float16 kernels on CPUs."""


class Float16Rounding(Leaf):
    """Rounds to float16 where the runtime does so implicitly."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return x.half().float()


def check_float16_range(graph: fx.GraphModule, node_bits: Mapping[fx.Node, int], images: Images) -> None:
    """Reject float16 for values that it cannot hold.

    Args:
        graph: in float32.
        node_bits: bits of each node.
        images: training images [N, C, H, W]; without any, nothing is rejected.

    Raises:
        ExportError: a value inside an FP16 unit exceeds 65,504; the message names the layer.
    """
    float16_nodes = [node for node, width in node_bits.items() if width == FLOAT16_BITS]
    for node, observed in observe_ranges(graph, float16_nodes, images).items():
        max_abs = max(-observed.min_value, observed.max_value)
        if not max_abs <= FLOAT16_MAX:  # written this way round, NaN is rejected too
            raise ExportError(
                f"values of an FP16 unit must lie within {FLOAT16_MAX:,.0f}, but {node.target!r} gives {max_abs:,.0f}; "
                f"give that unit 8 or 32 bits"
            )


def round_weights_to_float16(graph: fx.GraphModule, node_bits: Mapping[fx.Node, int]) -> None:
    """Round all weights of FP16 nodes to float16, in place."""
    for node, width in node_bits.items():
        if width == FLOAT16_BITS:
            module_of(graph, node).half().float()


def insert_exit_casts(graph: fx.GraphModule, node_bits: Mapping[fx.Node, int]) -> None:
    """Insert a cast to float32 behind every node of an FP16 unit that is read outside it."""
    for node in [n for n, width in node_bits.items() if width == FLOAT16_BITS]:
        outside = [user for user in node.users if node_bits.get(user) != FLOAT16_BITS]
        if outside:
            replace_inputs(
                node, insert_after(graph, node, PrecisionCast(FLOAT32_BITS), f"{node.target}_float"), outside
            )


def insert_entry_casts(graph: fx.GraphModule, node_bits: Mapping[fx.Node, int]) -> None:
    """Insert a cast to float16 before everything that an FP16 unit reads from outside."""
    for node in list(graph.graph.nodes):
        inside = [user for user in node.users if node_bits.get(user) == FLOAT16_BITS]
        if inside and node_bits.get(node) != FLOAT16_BITS:
            path = str(node.target) if node.op == "call_module" else node.name
            replace_inputs(node, insert_after(graph, node, PrecisionCast(FLOAT16_BITS), f"{path}_half"), inside)


def round_data_movement(graph: fx.GraphModule, node_bits: Mapping[fx.Node, int]) -> None:
    """Round in torch the values that ONNX Runtime moves in float16. Call it last, when all casts are inserted."""
    moving = [
        n
        for n, width in node_bits.items()
        if width == FLOAT16_BITS and isinstance(module_of(graph, n), DATA_MOVEMENT_LAYERS)
    ]
    # Decided for all nodes before the first insertion, which would itself count as a float16 neighbour.
    rounded = [n for n in moving if any(_has_float16_kernel(graph, m) for m in (*n.all_input_nodes, *n.users))]
    for node in rounded:
        users = list(node.users)
        replace_inputs(node, insert_after(graph, node, Float16Rounding(), f"{node.target}_rounded"), users)


def float16_logits(graph: fx.GraphModule, bits: Mapping[str, int], pixels: Tensor) -> Tensor:
    """Logits [N, K] of pixels [N, C, H, W] where every layer of an FP16 unit rounds its output to float16."""

    def round_value(node: fx.Node, value: Tensor) -> Tensor:
        is_float16 = node.op == "call_module" and bits.get(unit_name(node)) == FLOAT16_BITS
        return value.clamp(-FLOAT16_MAX, FLOAT16_MAX).half().float() if is_float16 else value

    with torch.inference_mode():
        return run_with_callback(graph, pixels, round_value)


def _has_float16_kernel(graph: fx.GraphModule, node: fx.Node) -> bool:
    return node.op == "call_module" and isinstance(
        module_of(graph, node), (PrecisionCast, Float16Rounding, *DATA_MOVEMENT_LAYERS)
    )


@emit.register
def _float16_rounding(module: Float16Rounding, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    return inputs[0]
