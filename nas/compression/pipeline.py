"""What turns a candidate's net into the graph of its file: all compressors of a search, in order."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from torch import fx, nn

from hw_profiles._base import HardwareProfile
from nas.candidate import Candidate, decode
from nas.compression.base import CompressionContext, Compressor, FineTuneFunction
from nas.compression.gene_provider import GeneProvider
from nas.onnx_export.folding import fold
from search_spaces._base import Choice, SearchSpace, Value

INT8_BITS = 8
"""Width in which runtimes compute in integers."""


@dataclass(frozen=True, kw_only=True)
class CompressionPipeline:
    """The compressors that a search uses on one target. Stateless; the work is the members'."""

    compressors: Sequence[Compressor]
    profile: HardwareProfile
    other_genes: Sequence[GeneProvider] = ()

    @property
    def gene_providers(self) -> tuple[GeneProvider, ...]:
        """Sources of all genes beyond the architecture: the compressors, then the other providers."""
        return (*self.compressors, *self.other_genes)

    def choices(self, stages: tuple[str, ...]) -> list[Choice]:
        """The genes of all members."""
        return [gene for member in self.gene_providers for gene in member.choices(stages, self.profile)]

    def neutral_settings(self, stages: tuple[str, ...]) -> dict[str, Value]:
        """The values of the members' genes that change nothing."""
        return {
            gene: v
            for member in self.gene_providers
            for gene, v in member.initial_settings(stages, self.profile)[0].items()
        }

    def decode(self, space: SearchSpace, configuration: Mapping[str, Value]) -> Candidate:
        """The candidate of a pick over the space's and the members' genes.

        Raises:
            DisconnectedError: there is no path from the input to the output.
        """
        return decode(
            space, configuration, channel_multiple=self.profile.channel_multiple, precisions=self.profile.precisions,
            settings_rules=[member.effective_settings for member in self.gene_providers],
        )  # fmt: skip

    def fp32_baseline(self, candidate: Candidate) -> Candidate | None:
        """The same net with its 8-bit units in the next wider form of the target; None where nothing is in 8 bits."""
        wider = [bits for bits in self.profile.precisions if bits > INT8_BITS]
        if INT8_BITS not in candidate.bits.values() or not wider:
            return None
        twin = replace(candidate.with_min_bits(min(wider)), settings={})
        settings: dict[str, Value] = {}
        for member in self.gene_providers:  # what only changed the 8-bit units falls away
            settings.update(member.effective_settings(candidate.settings, twin))
        return replace(twin, settings=settings)

    def changes_shape(self, candidate: Candidate) -> bool:
        """Whether the candidate's net changes its shape half-way through its first training."""
        return any(member.changes_shape(candidate) for member in self.compressors)

    def restructure(self, net: nn.Module, context: CompressionContext) -> nn.Module:
        """The restructured form of a net that has the pruned widths already."""
        for member in self.compressors:
            net = member.restructure(net, context)
        return net

    def prune(self, wide: nn.Module, slim: nn.Module, context: CompressionContext) -> None:
        """Fill a fresh slim net from a trained wide one."""
        if not context.candidate.is_pruned:
            slim.load_state_dict(wide.state_dict())
            return
        for member in self.compressors:
            member.prune(wide, slim, context)

    @contextmanager
    def training(self, net: nn.Module, context: CompressionContext) -> Iterator[Callable[[float], None]]:
        """All members' changes to how the net learns; yields what is called before each step with the progress."""
        with ExitStack() as held:
            steps = [held.enter_context(member.training(net, context)) for member in self.compressors]

            def before_step(progress: float) -> None:
                for step in steps:
                    step(progress)

            yield before_step

    def compress_graph(
        self, net: nn.Module, context: CompressionContext, *, fit: FineTuneFunction | None = None
    ) -> fx.GraphModule:
        """The folded and compressed graph of a net; with `fit`, members may train what they rewrote."""
        graph = fold(net, input_shape=context.input_shape)
        for member in self.compressors:
            graph = member.rewrite_graph(graph, context) if fit is None else member.fine_tune(graph, context, fit)
        return graph

    def notes(self, graph: fx.GraphModule, candidate: Candidate) -> tuple[str, ...]:
        """What a reader of the figures of this graph's file has to know."""
        return tuple(note for member in self.compressors for note in member.notes(graph, candidate))
