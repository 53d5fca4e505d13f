"""Compression pipeline of a search: the compressors in order, from a candidate's net to the graph of its file."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from torch import fx, nn

from hw_profiles._base import INT8_BITS, HardwareProfile
from nas.candidate import Candidate, decode
from nas.compression.base import CompressionContext, Compressor, FineTuneFunction
from nas.compression.gene_provider import GeneProvider
from nas.onnx_export.folding import fold
from search_spaces._base import Choice, SearchSpace, Value


@dataclass(frozen=True, kw_only=True)
class CompressionPipeline:
    """The compressors that a search uses on one target, applied in order. Stateless.

    Attributes:
        compressors: the members; each works on the result of the one before.
        profile: the target device.
    """

    compressors: Sequence[Compressor]
    profile: HardwareProfile
    other_genes: Sequence[GeneProvider] = ()

    @property
    def gene_providers(self) -> tuple[GeneProvider, ...]:
        """Sources of all genes beyond the architecture: the compressors, then the other providers."""
        return (*self.compressors, *self.other_genes)

    def choices(self, stages: tuple[str, ...]) -> list[Choice]:
        """The genes of all members.

        Raises:
            MissingPackageError: a member needs an optional package that is not installed.
        """
        return [gene for member in self.gene_providers for gene in member.choices(stages, self.profile)]

    def neutral_settings(self, stages: tuple[str, ...]) -> dict[str, Value]:
        """The value of every gene that changes nothing."""
        return {
            gene: value
            for member in self.gene_providers
            for gene, value in member.initial_settings(stages, self.profile)[0].items()
        }

    def decode(self, space: SearchSpace, configuration: Mapping[str, Value]) -> Candidate:
        """The candidate of a configuration over the genes of the space and of the members.

        Raises:
            DisconnectedError: the configuration has no path from the input to the output.
        """
        return decode(
            space, configuration, channel_multiple=self.profile.channel_multiple, precisions=self.profile.precisions,
            settings_rules=[member.effective_settings for member in self.gene_providers],
        )  # fmt: skip

    def fp32_baseline(self, candidate: Candidate) -> Candidate | None:
        """The same candidate with its INT8 units in the target's next wider precision; INT8 is compared with it.

        Returns:
            The baseline, or None where no unit is INT8 or the target has no wider precision. Settings that only concern
            INT8 are dropped.
        """
        wider = [bits for bits in self.profile.precisions if bits > INT8_BITS]
        if INT8_BITS not in candidate.bits.values() or not wider:
            return None
        baseline = replace(candidate.with_min_bits(min(wider)), settings={})
        settings: dict[str, Value] = {}
        for member in self.gene_providers:  # drops settings that only concern INT8, such as the calibration method
            settings.update(member.effective_settings(candidate.settings, baseline))
        return replace(baseline, settings=settings)

    def changes_shape(self, candidate: Candidate) -> bool:
        """Whether the shapes of the candidate's layers change half-way through its first training."""
        return any(member.changes_shape(candidate) for member in self.compressors)

    def shapes_weights(self, candidate: Candidate) -> bool:
        """Whether the candidate's weights are masked or rounded while they train."""
        return any(member.shapes_weights(candidate) for member in self.compressors)

    def restructure(self, net: nn.Module, context: CompressionContext) -> nn.Module:
        """The restructured form of a net that already has the pruned widths; `net` may be changed in place.

        Raises:
            MissingPackageError: a member needs an optional package that is not installed.
        """
        for member in self.compressors:
            net = member.restructure(net, context)
        return net

    def prune(self, wide: nn.Module, slim: nn.Module, context: CompressionContext) -> None:
        """Fill an untrained slim net, in place, from a trained wide net.

        Raises:
            BuildError: the slim net is not a narrower form of the wide net; the message names the layer.
        """
        if not context.candidate.is_pruned:
            slim.load_state_dict(wide.state_dict())
            return
        for member in self.compressors:
            member.prune(wide, slim, context)

    @contextmanager
    def training(self, net: nn.Module, context: CompressionContext) -> Iterator[Callable[[float], None]]:
        """Context manager that applies the changes of all members to a training.

        Yields:
            A function to call before each training step with the progress of this training, 0..1.
        """
        with ExitStack() as stack:
            callbacks = [stack.enter_context(member.training(net, context)) for member in self.compressors]

            def before_step(progress: float) -> None:
                for callback in callbacks:
                    callback(progress)

            yield before_step

    def compress_graph(
        self, net: nn.Module, context: CompressionContext, *, fit: FineTuneFunction | None = None
    ) -> fx.GraphModule:
        """The folded and compressed graph of a net.

        Args:
            net: the trained and restructured net; it is not changed.
            context: the candidate, and the images for calibration.
            fit: where it is given, members may train what they rewrote.

        Raises:
            ExportError: the net cannot be traced or folded, or a member refuses the graph.
        """
        graph = fold(net, input_shape=context.input_shape)
        for member in self.compressors:
            graph = member.rewrite_graph(graph, context) if fit is None else member.fine_tune(graph, context, fit)
        return graph

    def notes(self, graph: fx.GraphModule, candidate: Candidate) -> tuple[str, ...]:
        """Facts that a reader needs to understand the figures of the graph's file, from all members."""
        return tuple(note for member in self.compressors for note in member.notes(graph, candidate))
