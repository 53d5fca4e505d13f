"""Few-bit weights: 4 bits, ternary or binary in whole stages, learned through their rounding; see `_few_bits`.

Size only: no runtime here has kernels for them in convolutions, so the latency is that of the float net. Stem and head
keep their weights, as all papers on such nets advise. Where ONNX Runtime runs the file it stores int4, whatever the
levels; other runtimes do not read int4 before a convolution, so their files hold the few values in float. What a file
packed to the last bit would weigh is told in the candidate's notes.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from torch import fx, nn
from torch.nn.utils import parametrize

from hw_profiles._base import HardwareProfile
from nas.candidate import Candidate
from nas.compression.base import CompressionContext, Compressor
from nas.compression.quantization.low_bit import (
    BINARY,
    INT4,
    PACKED_BITS,
    TERNARY,
    LowBitLayer,
    StraightThroughRounding,
    WeightedLayer,
    round_low_bit,
)
from nas.onnx_export.folding import module_nodes, module_of
from search_spaces._base import Choice, Value

FULL_BITS = 32
WEIGHT_BITS_OPTIONS = (BINARY, TERNARY, INT4, FULL_BITS)
INT4_RUNTIME = "onnxruntime"
_FULL_WEIGHT = "full_weight"


class FewBits(Compressor):
    """Genes `weight_bits.<stage>`: 32 leaves the weights as they are.

    While a net learns, its full weights are kept beside the rounded ones, so that the next training goes on from them.
    """

    name = "few_bits"

    def choices(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[Choice, ...]:
        """One gene per stage."""
        return tuple(Choice(name=f"weight_bits.{stage}", options=WEIGHT_BITS_OPTIONS) for stage in stages)

    def initial_settings(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[dict[str, Value], ...]:
        """All weights in full; and all in 4 bits."""
        full: dict[str, Value] = {f"weight_bits.{stage}": FULL_BITS for stage in stages}
        return full, dict.fromkeys(full, INT4)

    def effective_settings(self, configuration: Mapping[str, Value], candidate: Candidate) -> dict[str, Value]:
        """Stages with few-bit weights.

        A stage whose activations are in 8 bits has 8-bit weights, and one with pruned single weights keeps those it has
        (binary ones would undo the zeros): there the gene is dropped.
        """
        return {
            f"weight_bits.{stage}": bits
            for stage in candidate.widths
            if (bits := configuration.get(f"weight_bits.{stage}", FULL_BITS)) != FULL_BITS
            and candidate.bits.get(stage, FULL_BITS) != 8
            and not configuration.get(f"zeros.{stage}")
        }

    def restructure(self, net: nn.Module, context: CompressionContext) -> nn.Module:
        """The net with room for the full weights beside the rounded ones."""
        for layer, _ in _low_bit_layers(net, context):
            layer.register_buffer(_FULL_WEIGHT, layer.weight.detach().clone())
        return net

    @contextmanager
    def training(self, net: nn.Module, context: CompressionContext) -> Iterator[Callable[[float], None]]:
        """Layers compute with rounded weights, and full ones learn."""
        layers = list(_low_bit_layers(net, context))
        # A folded graph has other weights than the net whose full ones it carries.
        keeps = not isinstance(net, fx.GraphModule)
        for layer, bits in layers:
            full = getattr(layer, _FULL_WEIGHT, None)
            if full is not None and keeps:
                layer.weight.data.copy_(full)
            parametrize.register_parametrization(layer, "weight", StraightThroughRounding(bits))
        try:
            yield lambda progress: None
        finally:
            for layer, _ in layers:
                full = getattr(layer, _FULL_WEIGHT, None)
                if full is not None and keeps:
                    full.copy_(layer.get_parameter("parametrizations.weight.original").detach())
                parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)

    def rewrite_graph(self, graph: fx.GraphModule, context: CompressionContext) -> fx.GraphModule:
        """The graph with few-bit layers, or with rounded weights where the runtime reads no int4."""
        packs = context.profile.runtime == INT4_RUNTIME
        chosen = dict(_low_bit_layers(graph, context))
        for node in module_nodes(graph):
            layer = module_of(graph, node)
            if not isinstance(layer, WeightedLayer) or layer not in chosen:
                continue
            half = context.candidate.bits.get(str(node.target).split(".")[0], FULL_BITS) == 16
            if packs:
                graph.set_submodule(str(node.target), LowBitLayer(layer, bits=chosen[layer], is_float16=half))
            else:
                layer.weight = nn.Parameter(round_low_bit(layer.weight.detach(), chosen[layer]))
                if half:
                    layer.half().float()
        graph.recompile()
        return graph

    def notes(self, graph: fx.GraphModule, candidate: Candidate) -> tuple[str, ...]:
        """For each few-bit stage, what its weights would weigh packed; a scale takes four bytes."""
        found = []
        for gene, bits in candidate.settings.items():
            kind, _, stage = gene.partition(".")
            if kind != "weight_bits":
                continue
            unit = graph.get_submodule(stage)
            layers = [m for m in unit.modules() if isinstance(m, WeightedLayer)]
            weights = sum(layer.weight.numel() for layer in layers)
            packed = PACKED_BITS[int(bits)] * weights / 8 + 4 * sum(len(layer.weight) for layer in layers)
            found.append(
                f"{stage} has {weights:,} weights of {PACKED_BITS[int(bits)]:.3g} bits, {packed:,.0f} bytes if packed "
                f"with their scales; no latency effect, for there are no kernels for them"
            )
        return tuple(found)


def _low_bit_layers(net: nn.Module, context: CompressionContext) -> Iterator[tuple[WeightedLayer, int]]:
    """Layers with few-bit weights, and how few."""
    found = context.candidate.settings
    for name, module in net.named_modules():
        bits = found.get(f"weight_bits.{name.split('.')[0]}", FULL_BITS)
        if isinstance(module, WeightedLayer) and bits != FULL_BITS:
            yield module, int(bits)


COMPRESSOR = FewBits()
