"""Bits per unit: 8 (integers between Q/DQ nodes), 16 (float16 between casts) or 32, chosen for each unit on its own.

Post-training, calibrated on training images. Nodes are placed so that ONNX Runtime and TensorRT fuse them: at every
tensor that an integer kernel reads or writes, but not between a convolution or addition and the ReLU or ReLU6 that only
it feeds. Pools, flattening and transposing keep their input's grid; a concatenation's inputs share its output's grid
(TensorRT asks for it), but for uint8 only where both are non-negative or neither is: a ReLU vanishes into its producer
only if 0 is the lowest level. Without VNNI instructions x86 kernels may saturate; the parity gate would show it.

On devices with both, a unit is in 8 or in 16 bits, never in 32: the file then means the same to TensorRT 8.6, which
picks what is not said, and to 10 and 11, which do what the file says; there Q/DQ with float32 between them are slower
than float16 alone. The borders are casts, and Q/DQ keep float32 scales: float16 scales need opset 19, which TensorRT
8.6 does not read.
"""

from collections.abc import Mapping
from functools import reduce

from torch import fx, nn

from hw_profiles._base import HardwareProfile
from nas.candidate import Candidate
from nas.compression.base import CompressionContext, Compressor, FineTuneFunction
from nas.compression.quantization.calibration import CLIPPING_METHODS
from nas.compression.quantization.calibration_images import check_calibration_images
from nas.compression.quantization.fake_quantize import FakeQuantize, QuantizedLayer
from nas.compression.quantization.float16 import (
    check_float16_range,
    insert_entry_casts,
    insert_exit_casts,
    round_data_movement,
    round_weights_to_float16,
)
from nas.compression.quantization.learned_scales import convert_qat, prepare_qat
from nas.compression.quantization.ranges import (
    CALIBRATION_METHODS,
    Images,
    RangeObserver,
    observe_histograms,
    observe_ranges,
)
from nas.errors import ExportError
from nas.onnx_export.folding import insert_after, module_nodes, module_of
from search_spaces._base import HEAD, STEM, Choice, Value
from search_spaces._leaf import Add, Concat, SwapAxes

CALIBRATION_GENE, DEFAULT_CALIBRATION = "calibration", "mse"
GRID_PRESERVING_LAYERS = (nn.MaxPool2d, nn.Flatten, SwapAxes)
RELU_FUSING_LAYERS = (nn.Conv2d, nn.Linear, Add)
RELU_LAYERS = (nn.ReLU, nn.ReLU6)
"""ReLU6 too: no level of a grid calibrated behind it lies above 6, so the clipping is the rounding's own."""


class Quantize(Compressor):
    """Genes `bits.<unit>` for the stem, each stage and the head, and `calibration` where there are 8 bits."""

    name = "quantize"

    def choices(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[Choice, ...]:
        """One gene per unit over the device's precisions, none where it has but one; and how 8 bits are calibrated."""
        options = _bit_options(profile)
        if len(options) < 2:
            return ()
        genes = [Choice(name=f"bits.{unit}", options=options) for unit in (STEM, *stages, HEAD)]
        return (*genes, Choice(name=CALIBRATION_GENE, options=CALIBRATION_METHODS)) if 8 in options else tuple(genes)

    def initial_settings(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[dict[str, Value], ...]:
        """All in the widest form; and the body in the narrowest, with the thin stem and the head left wide."""
        low, high = min(_bit_options(profile)), max(_bit_options(profile))
        if low == high:
            return ({},)
        wide: dict[str, Value] = {f"bits.{unit}": high for unit in (STEM, *stages, HEAD)}
        wide |= {CALIBRATION_GENE: DEFAULT_CALIBRATION} if low == 8 else {}
        return wide, {**wide, **{f"bits.{stage}": low for stage in stages}}

    def effective_settings(self, configuration: Mapping[str, Value], candidate: Candidate) -> dict[str, Value]:
        """The calibration, where it is another than `mse` and there is something to calibrate."""
        method = configuration.get(CALIBRATION_GENE, DEFAULT_CALIBRATION)
        return {CALIBRATION_GENE: method} if method != DEFAULT_CALIBRATION and 8 in candidate.bits.values() else {}

    def rewrite_graph(self, graph: fx.GraphModule, context: CompressionContext) -> fx.GraphModule:
        """The graph with fake-quantisers and casts.

        Raises:
            ExportError: a bit-width is none of 8, 16, 32, a unit is not in the graph, 8 bits have no images, or float16
                cannot hold a unit's values.
        """
        bits = context.candidate.bits
        _check_bits(graph, bits, context.images)
        widths = {node: bits.get(str(node.target).split(".")[0], 32) for node in module_nodes(graph)}
        if not context.shapes_only:
            check_float16_range(graph, widths, context.images)
        round_weights_to_float16(graph, bits)
        insert_exit_casts(graph, widths)
        _insert_fake_quantizers(graph, widths, context)
        insert_entry_casts(graph, widths)
        round_data_movement(graph, widths)
        graph.recompile()
        return graph

    def fine_tune(self, graph: fx.GraphModule, context: CompressionContext, fit: FineTuneFunction) -> fx.GraphModule:
        """The same modules as from `on_graph`, with weights that were trained through their rounding.

        Raises:
            ExportError: as in `on_graph`.
        """
        graph = self.rewrite_graph(graph, context)
        if 8 not in context.candidate.bits.values() or context.candidate.settings.get("nni_quantizer"):  # NNI trains it
            return graph
        prepare_qat(graph, learn_scales=context.learn_scales)
        fit(graph)
        convert_qat(graph)
        round_weights_to_float16(graph, context.candidate.bits)
        return graph


def _bit_options(profile: HardwareProfile) -> tuple[int, ...]:
    """The bit-widths to choose from. With both 8 and 16 there is no 32, or half a net of Q/DQ would stay in float32."""
    have = tuple(sorted(profile.precisions))
    return tuple(bits for bits in have if bits < 32) if {8, 16} <= set(have) else have


def _check_bits(graph: fx.GraphModule, bits: Mapping[str, int], images: Images) -> None:
    wrong = {unit: width for unit, width in bits.items() if width not in (8, 16, 32)}
    if wrong:
        raise ExportError(f"bits must be 8, 16 or 32, but got {wrong}")
    units = {str(node.target).split(".")[0] for node in module_nodes(graph)}
    if set(bits) - units:
        raise ExportError(f"bits must name units of the net ({', '.join(sorted(units))}), but got {sorted(bits)}")
    if 8 in bits.values():
        check_calibration_images(images)


def _insert_fake_quantizers(
    graph: fx.GraphModule, node_bits: Mapping[fx.Node, int], context: CompressionContext
) -> None:
    integer = [node for node, width in node_bits.items() if width == 8]
    tensors = _quantized_tensors(graph, integer)
    if not tensors:
        return
    for node, grid in _calibrated_quantizers(graph, tensors, context).items():
        readers = [user for user in node.users if node in integer or user in integer]
        fake = insert_after(graph, node, grid, f"{_node_path(node)}_q")
        _replace_inputs(node, fake, readers)
    for node in integer:
        layer = module_of(graph, node)
        if isinstance(layer, nn.Conv2d | nn.Linear):
            scale = _input_fake_quantize(graph, node).scale
            graph.set_submodule(str(node.target), QuantizedLayer(layer, input_scale=scale))


def _quantized_tensors(graph: fx.GraphModule, int8_nodes: list[fx.Node]) -> list[fx.Node]:
    inside = set(int8_nodes)
    found: dict[fx.Node, None] = {}
    for node in int8_nodes:
        candidates = [*node.all_input_nodes, *([] if _is_logits(node) else [node])]
        found.update(
            dict.fromkeys(t for t in candidates if t not in inside or not _is_fused_into_relu(graph, t, inside))
        )
    return list(found)


def _is_fused_into_relu(graph: fx.GraphModule, node: fx.Node, int8_nodes: set[fx.Node]) -> bool:
    """Whether a runtime fuses the node with the ReLU that alone reads it, so that its output never exists."""
    if not isinstance(module_of(graph, node), RELU_FUSING_LAYERS) or len(node.users) != 1:
        return False
    reader = next(iter(node.users))
    return reader in int8_nodes and isinstance(module_of(graph, reader), RELU_LAYERS)


def _is_logits(node: fx.Node) -> bool:
    return all(user.op == "output" for user in node.users)


def _calibrated_quantizers(
    graph: fx.GraphModule, tensors: list[fx.Node], context: CompressionContext
) -> dict[fx.Node, FakeQuantize]:
    """One grid for each tensor, calibrated; tensors that must share one have equal grids of one group."""
    signed, method = (
        context.profile.activation_signed,
        str(context.candidate.settings.get(CALIBRATION_GENE, DEFAULT_CALIBRATION)),
    )
    method = "minmax" if context.shapes_only else method  # the quickest: no grid changes what a file weighs or takes
    ranges = observe_ranges(graph, tensors, context.images)
    groups = _shared_grid_groups(graph, ranges, signed=signed)
    for members in groups:
        joined = reduce(RangeObserver.merge, [ranges[node] for node in members])
        ranges.update(dict.fromkeys(members, joined))
    if method in CLIPPING_METHODS:
        observe_histograms(graph, ranges, context.images)
    found: dict[fx.Node, FakeQuantize] = {}
    for members in groups:
        grid = ranges[members[0]].fake_quantize(signed=signed, method=method)
        for node in members:
            found[node] = _copy_fake_quantize(grid, grid_group=_node_path(members[0]))
    return {node: found[node] for node in tensors}


def _shared_grid_groups(
    graph: fx.GraphModule, ranges: Mapping[fx.Node, RangeObserver], *, signed: bool
) -> list[list[fx.Node]]:
    """Tensors that must share a grid stand together."""
    group = {node: [node] for node in ranges}
    for node in ranges:
        module = module_of(graph, node) if node.op == "call_module" else None
        for source in node.all_input_nodes:
            if source not in group:
                continue
            same_sign = (ranges[source].min_value < 0) == (ranges[node].min_value < 0)
            if isinstance(module, GRID_PRESERVING_LAYERS) or (isinstance(module, Concat) and (signed or same_sign)):
                _merge_groups(group, source, node)
    return list({id(members): members for members in group.values()}.values())


def _merge_groups(group: dict[fx.Node, list[fx.Node]], a: fx.Node, b: fx.Node) -> None:
    if group[a] is not group[b]:
        joined = group[a] + group[b]
        for node in joined:
            group[node] = joined


def _copy_fake_quantize(fake_quantize: FakeQuantize, *, grid_group: str) -> FakeQuantize:
    return FakeQuantize(
        scale=fake_quantize.scale,
        zero_point=fake_quantize.zero_point,
        signed=fake_quantize.signed,
        grid_group=grid_group,
    )


def _input_fake_quantize(graph: fx.GraphModule, node: fx.Node) -> FakeQuantize:
    source = node.all_input_nodes[0]
    grid = module_of(graph, source) if source.op == "call_module" else None
    if not isinstance(grid, FakeQuantize):
        raise ExportError(f"an 8-bit layer must read a quantised tensor, but {node.target!r} reads {source.name!r}")
    return grid


def _replace_inputs(node: fx.Node, replacement: fx.Node, readers: list[fx.Node]) -> None:
    for reader in readers:
        reader.replace_input_with(node, replacement)


def _node_path(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_module" else node.name


COMPRESSOR = Quantize()
