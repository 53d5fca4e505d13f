"""Search space contract: a flat list of choices, a decoder to canonical architectures, and a builder.

The space is flat: every gene always has a value, and `decode` drops genes without an effect. Two configurations of the
same network so decode to equal architectures, and a search never trains one network twice.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # records of candidates are read without torch, whose import takes seconds
    from torch import nn

    from search_spaces._work import Workload

Value = str | int | float
"""Value of a gene. Ordered options are numbers, so that a sampler can use the order."""

Architecture = dict[str, Any]
"""Canonical description of one network, equal for equal networks; JSON types only (str, int, float, bool, None, list,
dict)."""

STEM, HEAD = "stem", "head"


class DisconnectedError(ValueError):
    """A configuration leaves no path from the input to the output."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One gene: a name and its options, at least one, all of one type, numbers ascending."""

    name: str
    options: tuple[Value, ...]

    def __post_init__(self) -> None:
        if not self.options or len(set(self.options)) != len(self.options):
            raise ValueError(
                f"options of a choice must be distinct and at least one, but {self.name!r} got {self.options}"
            )


class SearchSpace(ABC):
    """Describes networks and builds them. It holds no weights and no state: every method is a pure function.

    Life: `choices` is called once for a target. A configuration maps each gene to one of its options, `decode` makes an
    architecture of it, and `build` turns that into a torch module, any number of times.

    Promises:

    - `decode` is total on configurations from `choices` but for `DisconnectedError`, and repeatable;
    - equal networks decode to equal architectures;
    - an architecture survives a JSON round trip;
    - `build` accepts images from 32x32 to 112x112 with 1 or 3 channels;
    - `torch.fx.symbolic_trace` can trace a built network.
    """

    name: str
    stages: tuple[str, ...]
    """Names of the body's stages, in order. A built network has a child module `stem`, one of each of these names, and
    `head`; each is a unit of compression."""
    kept_layers: frozenset[str] = frozenset()
    """Names of layers of the built networks that no compressor may change."""

    @abstractmethod
    def choices(self, *, channel_multiple: int) -> tuple[Choice, ...]:
        """The genes, with every width a multiple of `channel_multiple`."""

    def initial_configurations(self, *, channel_multiple: int) -> tuple[dict[str, Value], ...]:
        """Configurations known to be good, which are evaluated first. Genes that one leaves out are sampled."""
        return ()

    def large_configurations(self, *, channel_multiple: int) -> tuple[dict[str, Value], ...]:
        """Good configurations that are worth their time only where a limit on the latency says how much may be used."""
        return ()

    @abstractmethod
    def decode(self, configuration: Mapping[str, Value]) -> Architecture:
        """The canonical architecture of a configuration: genes without an effect are dropped, equivalent forms unified.

        Raises:
            DisconnectedError: there is no path from the input to the output.
            KeyError: a gene is missing.
        """

    @abstractmethod
    def widths(self, architecture: Architecture) -> dict[str, int]:
        """Channels of the stream of each stage in use, before any pruning."""

    @abstractmethod
    def build(
        self,
        architecture: Architecture,
        *,
        input_shape: tuple[int, int, int],
        classes: int,
        widths: Mapping[str, int] | None = None,
    ) -> "nn.Module":
        """A network from images [N, C, H, W], raw pixel values 0..255 as float32, to logits [N, classes].

        Args:
            architecture: from `decode`, also after a JSON round trip.
            input_shape: (C, H, W) of the images; the network resizes and normalises them itself.
            classes: number of logits.
            widths: overrides of `widths(architecture)`, for a pruned network, which has the same modules under the same
                names as the wide one.
        """

    def workload(
        self,
        architecture: Architecture,
        *,
        input_shape: tuple[int, int, int],
        classes: int,
        widths: Mapping[str, int] | None = None,
    ) -> "dict[str, Workload]":
        """Workload of the network that `build` returns for the same arguments, by unit; `prepare` is a unit too.

        This default builds the network on the meta device and traces it. A sampler screens hundreds of candidates for
        each one it proposes, so a space of ours overrides it and counts without building.
        """
        import torch

        from search_spaces._work import sum_workloads, trace_layers

        with torch.device("meta"):
            net = self.build(architecture, input_shape=input_shape, classes=classes, widths=widths)
        by_unit: dict[str, list[Workload]] = {}
        for layer in trace_layers(net, input_shape):
            by_unit.setdefault(layer.name.partition(".")[0], []).append(layer.workload)
        return {unit: sum_workloads(works) for unit, works in by_unit.items()}

    operations: tuple[str, ...] = ()
    """Names of the operations that `count_operations` counts."""

    def count_operations(self, architecture: Architecture) -> tuple[int, ...]:
        """How often the network contains each of `operations`."""
        return ()
