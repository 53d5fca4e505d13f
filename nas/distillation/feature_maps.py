"""The maps of a net's units while it learns, and which of a teacher's layers each is compared with."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nas.distillation.base import Level, Teaching
from nas.distillation.soft_targets import SoftPupil
from nas.errors import BuildError


class Watched:
    """The last map [N, C, H, W] that each unit of a net has put out: a unit is what module names begin with.

    Maps of one pixel, and those with no more channels than the images (pre-processing), are left out; of several units
    with maps of one size the last is watched.

    Attributes:
        channels: of each watched unit, in order of execution.
        scales: side of their maps as a share of the images' side.
    """

    def __init__(self, net: nn.Module, images: Tensor) -> None:
        """Look at a net in eval mode with images [N, C, H, W], and watch it until `close`.

        Raises:
            BuildError: no unit has a map.
        """
        seen: dict[str, tuple[nn.Module, torch.Size]] = {}

        def note(name: str) -> Any:
            def hook(module: nn.Module, _: Any, output: Any) -> None:
                is_map = isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1
                if is_map and output.shape[1] > images.shape[1]:
                    seen.pop(name, None)
                    seen[name] = module, output.shape

            return hook

        handles = [m.register_forward_hook(note(name.split(".")[0])) for name, m in net.named_modules() if name]
        with torch.no_grad():
            net(images)
        for handle in handles:
            handle.remove()
        last = {shape[2]: (module, shape) for module, shape in seen.values()}
        if not last:
            raise BuildError("a net must put out maps of features to be compared with a teacher's, but has none")
        self.channels = [shape[1] for _, shape in last.values()]
        self.scales = [side / images.shape[2] for side in last]
        self._maps: list[Tensor | None] = [None] * len(last)
        self._handles = [module.register_forward_hook(self._keeper(i)) for i, (module, _) in enumerate(last.values())]

    def _keeper(self, place: int) -> Any:
        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            self._maps[place] = output

        return hook

    def maps(self) -> list[Tensor]:
        """Those of the last forward pass, each [N, C, H, W] float32."""
        return [found.float() for found in self._maps if found is not None]

    def close(self) -> None:
        """Stop watching."""
        for handle in self._handles:
            handle.remove()
        self._maps = [None] * len(self._maps)


@dataclass(frozen=True)
class Pair:
    """A map of the net and a teacher's level: their places, and what their difference counts; weights sum to 1."""

    place: int
    level: Level
    weight: float


class MapPupil(SoftPupil):
    """Learns the answers as `SoftPupil` does, and draws maps of the net to the teachers' levels."""

    strength: float
    """How much the mean difference of the pairs counts in the loss."""

    def __init__(self, teaching: Teaching, net: nn.Module, images: Tensor) -> None:
        super().__init__(teaching)
        self.watched = Watched(net, images)
        self.pairs = self.paired(teaching, self.watched.scales)
        for i, pair in enumerate(self.pairs):
            self.register_buffer(f"level{i}", torch.from_numpy(pair.level.values), persistent=False)

    def gather(self, rows: Tensor) -> tuple[Tensor, ...]:
        """The teachers' probabilities [B, K], then each pair's level [B, C, h, w]."""
        held = (self.get_buffer(f"level{i}") for i in range(len(self.pairs)))
        return (*super().gather(rows), *(values.index_select(0, rows).float() for values in held))

    def loss(self, logits: Tensor, targets: Tensor, taught: tuple[Tensor, ...]) -> Tensor:
        """See `Pupil.loss`."""
        maps = self.watched.maps()
        parts = [
            pair.weight * self.difference(i, maps[pair.place], level)
            for i, (pair, level) in enumerate(zip(self.pairs, taught[1:], strict=True))
        ]
        return super().loss(logits, targets, taught[:1]) + self.strength * torch.stack(parts).sum()

    def close(self) -> None:
        """Let go of the net."""
        self.watched.close()

    @abstractmethod
    def paired(self, teaching: Teaching, scales: Sequence[float]) -> list[Pair]:
        """Which map of the net, of those with these scales, is compared with which level."""

    @abstractmethod
    def difference(self, pair: int, mine: Tensor, theirs: Tensor) -> Tensor:
        """How far a map of the net [B, C, H, W] is from a level [B, c, h, w], a scalar."""


def nearest(scale: float, others: Sequence[float]) -> int:
    """The place of the scale that is nearest by ratio; the last of those that are equally near."""
    return min(range(len(others)), key=lambda i: (round(abs(math.log(others[i] / scale)), 6), -i))


def by_teacher(teaching: Teaching) -> list[tuple[float, tuple[Level, ...]]]:
    """Weight and levels of each teacher that has levels; these weights sum to 1."""
    found = [(teacher.weight, teacher.levels) for teacher in teaching.teachers if teacher.levels]
    total = sum(weight for weight, _ in found)
    return [(weight / total, levels) for weight, levels in found]
