"""What a search space is: a flat list of choices, a canonical reading of them, and a builder.

The space is flat on purpose: every gene is always asked, and a gene without effect is dropped by `decode`. So two picks
that give the same net decode to equal architectures, and a search never trains one net twice.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from search_spaces._work import Workload, sum_workloads, trace_layers

Value = str | int | float
"""What a gene can hold. Numbers that have an order are given as numbers, so that a sampler can use the order."""

Architecture = dict[str, Any]
"""A canonical description of one net: JSON-ready (str, int, float, bool, None, list, dict), equal for equal nets."""

STEM, HEAD = "stem", "head"


class DisconnectedError(ValueError):
    """The picks leave no path from the input to the output."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One gene: a name and the values it may take, at least one, all of one type, numbers ascending."""

    name: str
    options: tuple[Value, ...]

    def __post_init__(self) -> None:
        if not self.options or len(set(self.options)) != len(self.options):
            raise ValueError(f"a choice needs distinct options, but {self.name!r} got {self.options}")


class SearchSpace(ABC):
    """Describes nets and builds them. It holds no weights and no state: every method is a pure function.

    Life: `choices` is asked once for a target; each pick is a mapping from gene name to one of its options; `decode`
    makes it canonical; `build` turns the result into a torch module, as often as wanted.

    Promises: `decode` is total on picks from `choices` but for `DisconnectedError`; equal nets decode to equal
    architectures, and decoding is repeatable; an architecture survives a JSON round trip; `build` accepts images from
    32x32 to 112x112 with 1 or 3 channels, and `torch.fx.symbolic_trace` can trace what it returns.
    """

    name: str
    stages: tuple[str, ...]
    """Names of the body's stages, in order. A built net has a child module `stem`, one of each of these names, and
    `head`; each is a unit of compression."""

    @abstractmethod
    def choices(self, *, channel_multiple: int) -> tuple[Choice, ...]:
        """The genes, with every width a multiple of `channel_multiple`."""

    def initial_configurations(self, *, channel_multiple: int) -> tuple[dict[str, Value], ...]:
        """Picks of nets that are known to be good, asked first. Full or partial: what is left out is sampled."""
        return ()

    @abstractmethod
    def decode(self, configuration: Mapping[str, Value]) -> Architecture:
        """The canonical architecture of a pick. Genes that have no effect are dropped, equivalent forms are unified.

        Raises:
            DisconnectedError: there is no path from the input to the output.
            KeyError: a gene is missing.
        """

    @abstractmethod
    def widths(self, architecture: Architecture) -> dict[str, int]:
        """The width of each stage in use, in channels: of the stage's stream, before any pruning."""

    @abstractmethod
    def build(
        self,
        architecture: Architecture,
        *,
        input_shape: tuple[int, int, int],
        classes: int,
        widths: Mapping[str, int] | None = None,
    ) -> nn.Module:
        """A net from images [N, C, H, W], raw pixel values 0..255 as float32, to logits [N, classes].

        Args:
            architecture: what `decode` returned (also after a JSON round trip).
            input_shape: (C, H, W) of the images; the net resizes and normalises them itself.
            classes: how many logits.
            widths: overrides of `widths(architecture)`, for a pruned net. A net built with narrower widths has the
                same modules under the same names as the wide one.
        """

    def workload(
        self,
        architecture: Architecture,
        *,
        input_shape: tuple[int, int, int],
        classes: int,
        widths: Mapping[str, int] | None = None,
    ) -> dict[str, Workload]:
        """What the net that `build` gives for the same arguments has to do, by unit; `prepare` is a unit too.

        Here the net is built without weights and looked at. A space whose nets are described a hundred times for each
        that is asked counts without building.
        """
        with torch.device("meta"):
            net = self.build(architecture, input_shape=input_shape, classes=classes, widths=widths)
        found: dict[str, list[Workload]] = {}
        for layer in trace_layers(net, input_shape):
            found.setdefault(layer.name.partition(".")[0], []).append(layer.workload)
        return {unit: sum_workloads(works) for unit, works in found.items()}

    operations: tuple[str, ...] = ()
    """Words of the operations that `count` counts."""

    def count_operations(self, architecture: Architecture) -> tuple[int, ...]:
        """How often each of `operations` stands in the net."""
        return ()
