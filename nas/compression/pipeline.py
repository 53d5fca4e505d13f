"""What turns a candidate's net into the graph of its file: all compressors of a search, in order."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from torch import fx, nn

from hw_profiles._base import HardwareProfile
from nas.candidate import Candidate, decode
from nas.compression.base import Compressor, Context, Fit
from nas.onnx_export.exporter import fold
from search_spaces._base import Choice, SearchSpace, Value

INTEGER_BITS = 8
"""Width in which runtimes compute in integers."""


@dataclass(frozen=True, kw_only=True)
class Compression:
    """The compressors that a search uses on one target. Stateless; the work is the members'."""

    members: Sequence[Compressor]
    profile: HardwareProfile

    def choices(self, stages: tuple[str, ...]) -> list[Choice]:
        """The genes of all members."""
        return [gene for member in self.members for gene in member.choices(stages, self.profile)]

    def neutral(self, stages: tuple[str, ...]) -> dict[str, Value]:
        """The values of the members' genes that change nothing."""
        return {gene: v for member in self.members for gene, v in member.seeds(stages, self.profile)[0].items()}

    def decode(self, space: SearchSpace, picked: Mapping[str, Value]) -> Candidate:
        """The candidate of a pick over the space's and the members' genes.

        Raises:
            DisconnectedError: there is no path from the input to the output.
        """
        return decode(
            space, picked, channel_multiple=self.profile.channel_multiple, precisions=self.profile.precisions,
            settle=[member.settle for member in self.members],
        )  # fmt: skip

    def float_twin(self, candidate: Candidate) -> Candidate | None:
        """The same net with its 8-bit units in the next wider form of the target; None where nothing is in 8 bits."""
        wider = [bits for bits in self.profile.precisions if bits > INTEGER_BITS]
        if INTEGER_BITS not in candidate.bits.values() or not wider:
            return None
        twin = replace(candidate.in_float(min(wider)), settings={})
        settings: dict[str, Value] = {}
        for member in self.members:  # what only changed the 8-bit units falls away
            settings.update(member.settle(candidate.settings, twin))
        return replace(twin, settings=settings)

    def reshapes(self, candidate: Candidate) -> bool:
        """Whether the candidate's net changes its shape half-way through its first training."""
        return any(member.reshapes(candidate) for member in self.members)

    def shape(self, net: nn.Module, context: Context) -> nn.Module:
        """The restructured form of a net that has the pruned widths already."""
        for member in self.members:
            net = member.restructure(net, context)
        return net

    def prune(self, wide: nn.Module, slim: nn.Module, context: Context) -> None:
        """Fill a fresh slim net from a trained wide one."""
        if not context.candidate.is_pruned:
            slim.load_state_dict(wide.state_dict())
            return
        for member in self.members:
            member.on_model(wide, slim, context)

    @contextmanager
    def training(self, net: nn.Module, context: Context) -> Iterator[Callable[[float], None]]:
        """All members' changes to how the net learns; yields what is called before each step with the progress."""
        with ExitStack() as held:
            steps = [held.enter_context(member.training(net, context)) for member in self.members]

            def before_step(progress: float) -> None:
                for step in steps:
                    step(progress)

            yield before_step

    def graph(self, net: nn.Module, context: Context, *, fit: Fit | None = None) -> fx.GraphModule:
        """The folded and compressed graph of a net; with `fit`, members may train what they rewrote."""
        graph = fold(net, input_shape=context.input_shape)
        for member in self.members:
            graph = member.on_graph(graph, context) if fit is None else member.fine_tune(graph, context, fit)
        return graph

    def notes(self, graph: fx.GraphModule, candidate: Candidate) -> tuple[str, ...]:
        """What a reader of the figures of this graph's file has to know."""
        return tuple(note for member in self.members for note in member.notes(graph, candidate))
