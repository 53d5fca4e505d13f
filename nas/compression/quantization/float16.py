"""Units in float16: weights rounded, casts at their borders, and a twin in torch that rounds where ONNX Runtime does.

ONNX Runtime has no float16 kernels for convolutions on a CPU. It widens what such a layer reads, computes in float32
and leaves out casts between two widened layers, those at the borders of a unit too. So nothing but the weights is
rounded there, apart from what a float16 kernel without arithmetic (`DATA_MOVEMENT_LAYERS`) moves while a neighbour is a cast or
another mover. TensorRT rounds what every kernel writes; `rounded_as_on_a_device` says how much that moves a net.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from nas.compression.quantization.fake_quantize import PrecisionCast
from nas.compression.quantization.ranges import Images, observe_ranges
from nas.errors import ExportError
from nas.onnx_export.folding import insert_after, module_nodes, module_of
from nas.onnx_export.graph_builder import GraphBuilder
from nas.onnx_export.onnx_ops import emit
from search_spaces._leaf import Concat, Leaf, SwapAxes

FLOAT16_MAX = float(np.finfo(np.float16).max)
DATA_MOVEMENT_LAYERS = (Concat, SwapAxes, nn.Flatten)
"""Layers whose kernels only move values, so that ONNX Runtime has them in float16 on a CPU."""


class Float16Rounding(Leaf):
    """Rounds to float16 where the runtime does so without being told."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return x.half().float()


def check_float16_range(graph: fx.GraphModule, node_bits: Mapping[fx.Node, int], images: Images) -> None:
    """Refuse float16 for what it cannot hold.

    Args:
        graph: in float32.
        node_bits: bits of each node.
        images: training images [N, C, H, W]; without any nothing is refused.

    Raises:
        ExportError: a value inside a 16-bit unit goes beyond 65,504; the layer is named.
    """
    for node, seen in observe_ranges(graph, [node for node, width in node_bits.items() if width == 16], images).items():
        peak = max(-seen.min_value, seen.max_value)
        if not peak <= FLOAT16_MAX:
            raise ExportError(
                f"values of a 16-bit unit must lie within {FLOAT16_MAX:,.0f}, but {node.target!r} gives {peak:,.0f}; "
                f"give that unit 8 or 32 bits"
            )


def round_weights_to_float16(graph: fx.GraphModule, bits: Mapping[str, int]) -> None:
    """Round all weights of 16-bit units to float16, in place."""
    for node in module_nodes(graph):
        if bits.get(str(node.target).split(".")[0]) == 16:
            module_of(graph, node).half().float()


def insert_exit_casts(graph: fx.GraphModule, node_bits: Mapping[fx.Node, int]) -> None:
    """A cast to float32 behind whatever is read outside a 16-bit unit."""
    for node in [n for n, width in node_bits.items() if width == 16]:
        outside = [user for user in node.users if node_bits.get(user) != 16]
        if outside:
            _replace_inputs(node, insert_after(graph, node, PrecisionCast(32), f"{node.target}_float"), outside)


def insert_entry_casts(graph: fx.GraphModule, node_bits: Mapping[fx.Node, int]) -> None:
    """A cast to float16 before whatever a 16-bit unit reads from outside."""
    for node in list(graph.graph.nodes):
        inside = [user for user in node.users if node_bits.get(user) == 16]
        if inside and node_bits.get(node) != 16:
            path = str(node.target) if node.op == "call_module" else node.name
            _replace_inputs(node, insert_after(graph, node, PrecisionCast(16), f"{path}_half"), inside)


def round_data_movement(graph: fx.GraphModule, node_bits: Mapping[fx.Node, int]) -> None:
    """Round in torch what ONNX Runtime moves in float16. Call it last, when all casts are in."""
    moving = [
        n for n, width in node_bits.items() if width == 16 and isinstance(module_of(graph, n), DATA_MOVEMENT_LAYERS)
    ]
    kept = {node: [n for n in (*node.all_input_nodes, *node.users) if _has_float16_kernel(graph, n)] for node in moving}
    for node in [node for node in moving if kept[node]]:
        users = list(node.users)
        _replace_inputs(node, insert_after(graph, node, Float16Rounding(), f"{node.target}_rounded"), users)


def float16_logits(graph: fx.GraphModule, bits: Mapping[str, int], pixels: Tensor) -> Tensor:
    """Logits [N, K] of pixels [N, C, H, W], every layer of a 16-bit unit rounding what it writes to float16."""

    class Rounding(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            is_half = n.op == "call_module" and bits.get(str(n.target).split(".")[0]) == 16
            return result.clamp(-FLOAT16_MAX, FLOAT16_MAX).half().float() if is_half else result

    with torch.inference_mode():
        found: Tensor = Rounding(graph).run(pixels)
    return found


def _has_float16_kernel(graph: fx.GraphModule, node: fx.Node) -> bool:
    return node.op == "call_module" and isinstance(
        module_of(graph, node), (PrecisionCast, Float16Rounding, *DATA_MOVEMENT_LAYERS)
    )


def _replace_inputs(node: fx.Node, replacement: fx.Node, readers: list[fx.Node]) -> None:
    for reader in readers:
        reader.replace_input_with(node, replacement)


@emit.register
def _float16_rounding(module: Float16Rounding, builder: GraphBuilder, name: str, inputs: list[str]) -> str:
    return inputs[0]
