"""Precision per unit: INT8 (between Q/DQ nodes), FP16 (between casts) or FP32, chosen for each unit on its own.

INT8 is post-training quantisation, calibrated on training images. Q/DQ nodes are placed so that ONNX Runtime and
TensorRT fuse them:

- At every tensor that an integer kernel reads or writes, but not between a convolution or addition and the ReLU or
  ReLU6 that alone reads it.
- Pools, flattening and transposing keep the grid of their input.
- The inputs of a concatenation share the grid of its output, as TensorRT requires. For uint8 they do so only where both
  are non-negative or neither is: a ReLU is fused into its producer only if 0 is the lowest level.

Without VNNI instructions x86 kernels may saturate; the parity gate detects it.

On devices with both INT8 and FP16, a unit is never FP32. The file then means the same to TensorRT 8.6, which chooses
what the file leaves open, and to TensorRT 10 and 11, which follow the file: there Q/DQ with FP32 between them are
slower than FP16 alone. The borders are casts, and Q/DQ keep float32 scales, because float16 scales need opset 19, which
TensorRT 8.6 does not read.
"""

from collections.abc import Mapping
from functools import reduce

from torch import fx, nn

from hw_profiles._base import FLOAT16_BITS, FLOAT32_BITS, INT8_BITS, HardwareProfile
from nas.candidate import Candidate
from nas.compression.base import CompressionContext, Compressor, FineTuneFunction
from nas.compression.quantization.calibration import (
    CALIBRATION_GENE,
    CALIBRATION_METHODS,
    DEFAULT_CALIBRATION,
    RangeObserver,
    observe_histograms,
    observe_ranges,
)
from nas.compression.quantization.calibration_images import check_calibration_images
from nas.compression.quantization.clipping import CLIPPING_METHODS
from nas.compression.quantization.fake_quantize import FakeQuantize, QuantizedLayer
from nas.compression.quantization.float16 import (
    check_float16_range,
    insert_entry_casts,
    insert_exit_casts,
    round_data_movement,
    round_weights_to_float16,
)
from nas.compression.quantization.node_bits import bit_options, node_bits
from nas.compression.quantization.qat import convert_qat, prepare_qat
from nas.errors import ExportError
from nas.onnx_export.folding import insert_after, module_nodes, module_of, replace_inputs, unit_name
from search_spaces._base import HEAD, STEM, Choice, Value
from search_spaces._leaf import Add, Concat, SwapAxes

GRID_PRESERVING_LAYERS = (nn.MaxPool2d, nn.Flatten, SwapAxes)
RELU_FUSING_LAYERS = (nn.Conv2d, nn.Linear, Add)
RELU_LAYERS = (nn.ReLU, nn.ReLU6)
"""ReLU6 too: no level of a grid calibrated behind it lies above 6, so the rounding does the clipping."""


class Quantize(Compressor):
    """Genes `bits.<unit>` for the stem, each stage and the head; `calibration` where INT8 is available."""

    name = "quantize"

    def choices(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[Choice, ...]:
        """One gene per unit over the device's precisions, none where there is only one; and the calibration of INT8."""
        options = bit_options(profile)
        if len(options) < 2:
            return ()
        genes = [Choice(name=f"bits.{unit}", options=options) for unit in (STEM, *stages, HEAD)]
        return (
            (*genes, Choice(name=CALIBRATION_GENE, options=CALIBRATION_METHODS))
            if INT8_BITS in options
            else tuple(genes)
        )

    def initial_settings(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[dict[str, Value], ...]:
        """All units in the widest precision; and the stages in the narrowest one, with stem and head left wide."""
        low, high = min(bit_options(profile)), max(bit_options(profile))
        if low == high:
            return ({},)
        wide: dict[str, Value] = {f"bits.{unit}": high for unit in (STEM, *stages, HEAD)}
        wide |= {CALIBRATION_GENE: DEFAULT_CALIBRATION} if low == INT8_BITS else {}
        return wide, {**wide, **{f"bits.{stage}": low for stage in stages}}

    def effective_settings(self, configuration: Mapping[str, Value], candidate: Candidate) -> dict[str, Value]:
        """The calibration method, where it is not `mse` and a unit is INT8."""
        method = configuration.get(CALIBRATION_GENE, DEFAULT_CALIBRATION)
        return (
            {CALIBRATION_GENE: method} if method != DEFAULT_CALIBRATION and INT8_BITS in candidate.bits.values() else {}
        )

    def rewrite_graph(self, graph: fx.GraphModule, context: CompressionContext) -> fx.GraphModule:
        """The graph with fake-quantisers and casts.

        Raises:
            ExportError: a bit-width is not 8, 16 or 32; a unit is not in the graph; INT8 has no valid calibration
                images; or float16 cannot hold the values of a unit.
        """
        _check_bits(graph, context)
        widths = node_bits(graph, context)
        if not context.shapes_only:
            check_float16_range(graph, widths, context.images)
        round_weights_to_float16(graph, widths)
        insert_exit_casts(graph, widths)
        _insert_fake_quantizers(graph, widths, context)
        insert_entry_casts(graph, widths)
        round_data_movement(graph, widths)
        graph.recompile()
        return graph

    def fine_tune(self, graph: fx.GraphModule, context: CompressionContext, fit: FineTuneFunction) -> fx.GraphModule:
        """Quantisation-aware training: as `rewrite_graph`, with weights that were trained through their rounding.

        Raises:
            ExportError: as in `rewrite_graph`.
        """
        graph = self.rewrite_graph(graph, context)
        if INT8_BITS not in context.candidate.bits.values() or context.candidate.settings.get("nni_quantizer"):
            return graph  # the member nni_quantize trains it
        prepare_qat(graph, learn_scales=context.learn_scales)
        fit(graph)
        convert_qat(graph)
        round_weights_to_float16(graph, node_bits(graph, context))
        return graph


def _check_bits(graph: fx.GraphModule, context: CompressionContext) -> None:
    bits, layer_bits = context.candidate.bits, context.layer_bits
    wrong = {
        name: width
        for name, width in {**bits, **layer_bits}.items()
        if width not in (INT8_BITS, FLOAT16_BITS, FLOAT32_BITS)
    }
    if wrong:
        raise ExportError(f"bits must be 8, 16 or 32, but got {wrong}")
    units = {unit_name(node) for node in module_nodes(graph)}
    if set(bits) - units:
        raise ExportError(f"bits must name units of the net ({', '.join(sorted(units))}), but got {sorted(bits)}")
    if missing := set(layer_bits) - {str(node.target) for node in module_nodes(graph)}:
        raise ExportError(f"bits of layers must name layers of the net, but {min(missing)!r} is none")
    if INT8_BITS in (*bits.values(), *layer_bits.values()):
        check_calibration_images(context.images)


def _insert_fake_quantizers(
    graph: fx.GraphModule, node_bits: Mapping[fx.Node, int], context: CompressionContext
) -> None:
    integer = [node for node, width in node_bits.items() if width == INT8_BITS]
    tensors = _quantized_tensors(graph, integer)
    if not tensors:
        return
    for node, grid in _calibrated_quantizers(graph, tensors, context).items():
        readers = [user for user in node.users if node in integer or user in integer]
        fake = insert_after(graph, node, grid, f"{_node_path(node)}_q")
        replace_inputs(node, fake, readers)
    for node in integer:
        layer = module_of(graph, node)
        if isinstance(layer, nn.Conv2d | nn.Linear):
            scale = _input_fake_quantize(graph, node).scale
            graph.set_submodule(str(node.target), QuantizedLayer(layer, input_scale=scale))


def _quantized_tensors(graph: fx.GraphModule, int8_nodes: list[fx.Node]) -> list[fx.Node]:
    inside = set(int8_nodes)
    tensors: dict[fx.Node, None] = {}  # an ordered set
    for node in int8_nodes:
        touched = [*node.all_input_nodes, *([] if _is_logits(node) else [node])]
        tensors.update(
            dict.fromkeys(t for t in touched if t not in inside or not _is_fused_into_relu(graph, t, inside))
        )
    return list(tensors)


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
    """A calibrated quantiser for each tensor; tensors that must share a grid get equal quantisers of one group."""
    signed = context.profile.activation_signed
    method = str(context.candidate.settings.get(CALIBRATION_GENE, DEFAULT_CALIBRATION))
    # The fastest method is enough for an untrained file: grids change neither its size nor its latency.
    method = "minmax" if context.shapes_only else method
    ranges = observe_ranges(graph, tensors, context.images)
    groups = _shared_grid_groups(graph, ranges, signed=signed)
    for members in groups:
        merged = reduce(RangeObserver.merge, [ranges[node] for node in members])
        ranges.update(dict.fromkeys(members, merged))
    if method in CLIPPING_METHODS:  # a second pass over the images: bins need the extremes of the first
        observe_histograms(graph, ranges, context.images)
    quantizers: dict[fx.Node, FakeQuantize] = {}
    for members in groups:
        shared = ranges[members[0]].fake_quantize(signed=signed, method=method)
        for node in members:
            quantizers[node] = _copy_fake_quantize(shared, grid_group=_node_path(members[0]))
    return {node: quantizers[node] for node in tensors}


def _shared_grid_groups(
    graph: fx.GraphModule, ranges: Mapping[fx.Node, RangeObserver], *, signed: bool
) -> list[list[fx.Node]]:
    """The tensors, grouped by the grid that they must share."""
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
        merged = group[a] + group[b]
        for node in merged:
            group[node] = merged


def _copy_fake_quantize(fake_quantize: FakeQuantize, *, grid_group: str) -> FakeQuantize:
    return FakeQuantize(
        scale=fake_quantize.scale,
        zero_point=fake_quantize.zero_point,
        signed=fake_quantize.signed,
        grid_group=grid_group,
    )


def _input_fake_quantize(graph: fx.GraphModule, node: fx.Node) -> FakeQuantize:
    source = node.all_input_nodes[0]
    module = module_of(graph, source) if source.op == "call_module" else None
    if not isinstance(module, FakeQuantize):
        raise ExportError(f"an INT8 layer must read a quantised tensor, but {node.target!r} reads {source.name!r}")
    return module


def _node_path(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_module" else node.name


COMPRESSOR = Quantize()
