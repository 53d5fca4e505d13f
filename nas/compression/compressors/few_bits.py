"""Low-bit weights: 4-bit, ternary or binary weights in whole stages, trained through their rounding.

See `nas.compression.quantization.low_bit` for the formats and their papers. They save file size only: no runtime used
here has convolution kernels for them, so the latency is that of the floating-point net. Stem and head keep their
weights, as all papers on such nets advise. For ONNX Runtime the file stores int4, whatever the number of levels. Other
runtimes do not read int4 before a convolution, so their files hold the few values in floating point. The candidate's
notes give the size of a densely packed file.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from torch import fx, nn
from torch.nn.utils import parametrize

from hw_profiles._base import FLOAT16_BITS, FLOAT32_BITS, INT8_BITS, HardwareProfile
from nas.candidate import Candidate
from nas.compression.base import CompressionContext, Compressor, no_op
from nas.compression.quantization.low_bit import (
    BINARY,
    INT4,
    INT4_RUNTIME,
    PACKED_BITS,
    TERNARY,
    LowBitLayer,
    StraightThroughRounding,
    WeightedLayer,
    round_low_bit,
)
from nas.onnx_export.folding import module_nodes, module_of, unit_name
from search_spaces._base import Choice, Value

WEIGHT_BITS_OPTIONS = (BINARY, TERNARY, INT4, FLOAT32_BITS)
_FULL_WEIGHT = "full_weight"


class FewBits(Compressor):
    """Genes `weight_bits.<stage>`: 1, 2, 4, or 32, which leaves the weights as they are.

    During training the full-precision weights are kept beside the rounded ones, so that a later training resumes from
    them.
    """

    name = "few_bits"

    def choices(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[Choice, ...]:
        """One gene per stage, on every target."""
        return tuple(Choice(name=f"weight_bits.{stage}", options=WEIGHT_BITS_OPTIONS) for stage in stages)

    def initial_settings(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[dict[str, Value], ...]:
        """All weights in full precision; and all in 4 bits."""
        full: dict[str, Value] = {f"weight_bits.{stage}": FLOAT32_BITS for stage in stages}
        return full, dict.fromkeys(full, INT4)

    def effective_settings(self, configuration: Mapping[str, Value], candidate: Candidate) -> dict[str, Value]:
        """The stages with low-bit weights.

        The gene is dropped for a stage whose activations are INT8, because its weights are INT8, and for a stage with
        unstructured pruning, because binary weights would undo the zeros.
        """
        return {
            f"weight_bits.{stage}": bits
            for stage in candidate.widths
            if (bits := configuration.get(f"weight_bits.{stage}", FLOAT32_BITS)) != FLOAT32_BITS
            and candidate.bits.get(stage, FLOAT32_BITS) != INT8_BITS
            and not configuration.get(f"zeros.{stage}")
        }

    def restructure(self, net: nn.Module, context: CompressionContext) -> nn.Module:
        """The net with a buffer for the full-precision weights beside the rounded ones."""
        for layer, _ in _low_bit_layers(net, context):
            layer.register_buffer(_FULL_WEIGHT, layer.weight.detach().clone())
        return net

    def shapes_weights(self, candidate: Candidate) -> bool:
        """Whether a stage has low-bit weights."""
        return any(gene.startswith("weight_bits.") for gene in candidate.settings)

    @contextmanager
    def training(self, net: nn.Module, context: CompressionContext) -> Iterator[Callable[[float], None]]:
        """Layers compute with rounded weights while the full-precision weights are trained."""
        layers = list(_low_bit_layers(net, context))
        # Folding changed a graph's weights (batch norm), so the buffers that it inherited no longer belong to them.
        has_latent = not isinstance(net, fx.GraphModule)
        for layer, bits in layers:
            full = getattr(layer, _FULL_WEIGHT, None)
            if full is not None and has_latent:
                layer.weight.data.copy_(full)
            parametrize.register_parametrization(layer, "weight", StraightThroughRounding(bits))
        try:
            yield no_op
        finally:
            for layer, _ in layers:
                full = getattr(layer, _FULL_WEIGHT, None)
                if full is not None and has_latent:
                    full.copy_(layer.get_parameter("parametrizations.weight.original").detach())
                parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)

    def rewrite_graph(self, graph: fx.GraphModule, context: CompressionContext) -> fx.GraphModule:
        """The graph with low-bit layers, or with rounded weights where the runtime does not read int4."""
        stores_int4 = context.profile.runtime == INT4_RUNTIME
        layer_bits = dict(_low_bit_layers(graph, context))
        for node in module_nodes(graph):
            layer = module_of(graph, node)
            if not isinstance(layer, WeightedLayer) or layer not in layer_bits:
                continue
            is_float16 = context.candidate.bits.get(unit_name(node)) == FLOAT16_BITS
            if stores_int4:
                graph.set_submodule(str(node.target), LowBitLayer(layer, bits=layer_bits[layer], is_float16=is_float16))
            else:
                layer.weight = nn.Parameter(round_low_bit(layer.weight.detach(), layer_bits[layer]))
                if is_float16:
                    layer.half().float()
        graph.recompile()
        return graph

    def notes(self, graph: fx.GraphModule, candidate: Candidate) -> tuple[str, ...]:
        """For each low-bit stage, the size of its densely packed weights; a scale takes four bytes."""
        notes = []
        for gene, bits in candidate.settings.items():
            kind, _, stage = gene.partition(".")
            if kind != "weight_bits":
                continue
            unit = graph.get_submodule(stage)
            layers = [m for m in unit.modules() if isinstance(m, WeightedLayer)]
            weights = sum(layer.weight.numel() for layer in layers)
            packed = PACKED_BITS[int(bits)] * weights / 8 + 4 * sum(len(layer.weight) for layer in layers)
            notes.append(
                f"{stage} has {weights:,} weights of {PACKED_BITS[int(bits)]:.3g} bits, {packed:,.0f} bytes if packed "
                f"with their scales; no latency effect, for there are no kernels for them"
            )
        return tuple(notes)


def _low_bit_layers(net: nn.Module, context: CompressionContext) -> Iterator[tuple[WeightedLayer, int]]:
    """Layers with low-bit weights, and the bits of each."""
    settings = context.candidate.settings
    for name, module in net.named_modules():
        bits = settings.get(f"weight_bits.{unit_name(name)}", FLOAT32_BITS)
        if isinstance(module, WeightedLayer) and bits != FLOAT32_BITS and not context.is_kept(name):
            yield module, int(bits)


COMPRESSOR = FewBits()
