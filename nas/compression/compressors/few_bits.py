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
from nas.compression.base import Compressor, Context
from nas.compression.quantization.low_bit import (
    BINARY,
    FOUR,
    PACKED_BITS,
    TERNARY,
    FewBitLayer,
    Rounding,
    Weighted,
    rounded,
)
from nas.onnx_export.folding import module_nodes, module_of
from search_spaces._base import Choice, Value

FULL = 32
OPTIONS = (BINARY, TERNARY, FOUR, FULL)
STORES_INT4 = "onnxruntime"
_FULL_WEIGHT = "full_weight"


class FewBits(Compressor):
    """Genes `weight_bits.<stage>`: 32 leaves the weights as they are.

    While a net learns, its full weights are kept beside the rounded ones, so that the next training goes on from them.
    """

    name = "few_bits"

    def choices(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[Choice, ...]:
        """One gene per stage."""
        return tuple(Choice(name=f"weight_bits.{stage}", options=OPTIONS) for stage in stages)

    def seeds(self, stages: tuple[str, ...], profile: HardwareProfile) -> tuple[dict[str, Value], ...]:
        """All weights in full; and all in 4 bits."""
        full: dict[str, Value] = {f"weight_bits.{stage}": FULL for stage in stages}
        return full, dict.fromkeys(full, FOUR)

    def settle(self, picked: Mapping[str, Value], candidate: Candidate) -> dict[str, Value]:
        """Stages with few-bit weights.

        A stage whose activations are in 8 bits has 8-bit weights, and one with pruned single weights keeps those it has
        (binary ones would undo the zeros): there the gene is dropped.
        """
        return {
            f"weight_bits.{stage}": bits
            for stage in candidate.widths
            if (bits := picked.get(f"weight_bits.{stage}", FULL)) != FULL
            and candidate.bits.get(stage, FULL) != 8
            and not picked.get(f"zeros.{stage}")
        }

    def restructure(self, net: nn.Module, context: Context) -> nn.Module:
        """The net with room for the full weights beside the rounded ones."""
        for layer, _ in _layers(net, context):
            layer.register_buffer(_FULL_WEIGHT, layer.weight.detach().clone())
        return net

    @contextmanager
    def training(self, net: nn.Module, context: Context) -> Iterator[Callable[[float], None]]:
        """Layers compute with rounded weights, and full ones learn."""
        layers = list(_layers(net, context))
        # A folded graph has other weights than the net whose full ones it carries.
        keeps = not isinstance(net, fx.GraphModule)
        for layer, bits in layers:
            full = getattr(layer, _FULL_WEIGHT, None)
            if full is not None and keeps:
                layer.weight.data.copy_(full)
            parametrize.register_parametrization(layer, "weight", Rounding(bits))
        try:
            yield lambda progress: None
        finally:
            for layer, _ in layers:
                full = getattr(layer, _FULL_WEIGHT, None)
                if full is not None and keeps:
                    full.copy_(layer.get_parameter("parametrizations.weight.original").detach())
                parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)

    def on_graph(self, graph: fx.GraphModule, context: Context) -> fx.GraphModule:
        """The graph with few-bit layers, or with rounded weights where the runtime reads no int4."""
        packs = context.profile.runtime == STORES_INT4
        chosen = dict(_layers(graph, context))
        for node in module_nodes(graph):
            layer = module_of(graph, node)
            if not isinstance(layer, Weighted) or layer not in chosen:
                continue
            half = context.candidate.bits.get(str(node.target).split(".")[0], FULL) == 16
            if packs:
                graph.set_submodule(str(node.target), FewBitLayer(layer, bits=chosen[layer], half=half))
            else:
                layer.weight = nn.Parameter(rounded(layer.weight.detach(), chosen[layer]))
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
            layers = [m for m in unit.modules() if isinstance(m, Weighted)]
            weights = sum(layer.weight.numel() for layer in layers)
            packed = PACKED_BITS[int(bits)] * weights / 8 + 4 * sum(len(layer.weight) for layer in layers)
            found.append(
                f"{stage} has {weights:,} weights of {PACKED_BITS[int(bits)]:.3g} bits, {packed:,.0f} bytes if packed "
                f"with their scales; no latency effect, for there are no kernels for them"
            )
        return tuple(found)


def _layers(net: nn.Module, context: Context) -> Iterator[tuple[Weighted, int]]:
    """Layers with few-bit weights, and how few."""
    found = context.candidate.settings
    for name, module in net.named_modules():
        bits = found.get(f"weight_bits.{name.split('.')[0]}", FULL)
        if isinstance(module, Weighted) and bits != FULL:
            yield module, int(bits)


COMPRESSOR = FewBits()
