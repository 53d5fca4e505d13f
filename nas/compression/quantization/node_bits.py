"""Bit-width of each node of a folded graph: that of its unit, unless the layer has one of its own or is kept."""

from torch import fx

from hw_profiles._base import FLOAT16_BITS, FLOAT32_BITS, INT8_BITS, HardwareProfile
from nas.compression.base import CompressionContext
from nas.onnx_export.folding import module_nodes, module_of, unit_name
from nas.onnx_export.layers import ELEMENTWISE_LAYERS
from nas.onnx_export.opaque_region import Region


def node_bits(graph: fx.GraphModule, context: CompressionContext) -> dict[fx.Node, int]:
    """The bit-width of each module node.

    - An opaque region is in FP32.
    - A layer that is kept is in the widest precision of the target, or in that of its unit where this is wider; a layer
      of `layer_bits` has its own.
    - An activation follows such a layer if it reads nothing else: a border between the two would cost a kernel.
    - All other nodes have the bits of their unit.
    """
    widths: dict[fx.Node, int] = {}
    own: dict[fx.Node, int] = {}
    for node in module_nodes(graph):
        module, name = module_of(graph, node), str(node.target)
        sources = node.all_input_nodes
        if isinstance(module, Region):
            widths[node] = FLOAT32_BITS
        elif context.is_kept(name):
            own[node] = max(*bit_options(context.profile), context.candidate.bits.get(unit_name(node), 0))
        elif name in context.layer_bits:
            own[node] = context.layer_bits[name]
        elif len(sources) == 1 and sources[0] in own and isinstance(module, ELEMENTWISE_LAYERS):
            own[node] = own[sources[0]]
        else:
            widths[node] = context.candidate.bits.get(unit_name(node), FLOAT32_BITS)
    return widths | own


def bit_options(profile: HardwareProfile) -> tuple[int, ...]:
    """The bit-widths to choose from: no 32 where both 8 and 16 exist, or part of a Q/DQ net would stay in FP32."""
    have = tuple(sorted(profile.precisions))
    return tuple(bits for bits in have if bits < FLOAT32_BITS) if {INT8_BITS, FLOAT16_BITS} <= set(have) else have
