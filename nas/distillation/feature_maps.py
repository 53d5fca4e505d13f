"""The maps of a net's units while it learns, and which of a teacher's layers each is compared with."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nas.distillation.base import FeatureMap, TeacherEnsemble
from nas.distillation.soft_targets import SoftTargetLoss
from nas.errors import BuildError


class FeatureMapRecorder:
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
        self.relative_sides = [side / images.shape[2] for side in last]
        self._maps: list[Tensor | None] = [None] * len(last)
        self._handles = [
            module.register_forward_hook(self._recording_hook(i)) for i, (module, _) in enumerate(last.values())
        ]

    def _recording_hook(self, index: int) -> Any:
        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            self._maps[index] = output

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
class FeatureMapPair:
    """A map of the net and a teacher's level: their places, and what their difference counts; weights sum to 1."""

    student_index: int
    teacher_map: FeatureMap
    weight: float


class FeatureMapLoss(SoftTargetLoss):
    """Learns the answers as `SoftTargetLoss` does, and draws maps of the net to the teachers' levels."""

    feature_weight: float
    """How much the mean difference of the pairs counts in the loss."""

    def __init__(self, ensemble: TeacherEnsemble, net: nn.Module, images: Tensor) -> None:
        super().__init__(ensemble)
        self.recorder = FeatureMapRecorder(net, images)
        self.pairs = self.match_maps(ensemble, self.recorder.relative_sides)
        for i, pair in enumerate(self.pairs):
            self.register_buffer(f"level{i}", torch.from_numpy(pair.teacher_map.values), persistent=False)

    def gather(self, indices: Tensor) -> tuple[Tensor, ...]:
        """The teachers' probabilities [B, K], then each pair's level [B, C, h, w]."""
        held = (self.get_buffer(f"level{i}") for i in range(len(self.pairs)))
        return (*super().gather(indices), *(values.index_select(0, indices).float() for values in held))

    def loss(self, logits: Tensor, targets: Tensor, teacher_outputs: tuple[Tensor, ...]) -> Tensor:
        """See `DistillationLoss.loss`."""
        maps = self.recorder.maps()
        parts = [
            pair.weight * self.map_distance(i, maps[pair.student_index], level)
            for i, (pair, level) in enumerate(zip(self.pairs, teacher_outputs[1:], strict=True))
        ]
        return super().loss(logits, targets, teacher_outputs[:1]) + self.feature_weight * torch.stack(parts).sum()

    def close(self) -> None:
        """Let go of the net."""
        self.recorder.close()

    @abstractmethod
    def match_maps(self, ensemble: TeacherEnsemble, relative_sides: Sequence[float]) -> list[FeatureMapPair]:
        """Which map of the net, of those with these scales, is compared with which level."""

    @abstractmethod
    def map_distance(self, pair_index: int, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """How far a map of the net [B, C, H, W] is from a level [B, c, h, w], a scalar."""


def nearest_index(relative_side: float, candidates: Sequence[float]) -> int:
    """The place of the scale that is nearest by ratio; the last of those that are equally near."""
    return min(range(len(candidates)), key=lambda i: (round(abs(math.log(candidates[i] / relative_side)), 6), -i))


def weighted_feature_maps(ensemble: TeacherEnsemble) -> list[tuple[float, tuple[FeatureMap, ...]]]:
    """Weight and levels of each teacher that has levels; these weights sum to 1."""
    found = [(teacher.weight, teacher.feature_maps) for teacher in ensemble.teachers if teacher.feature_maps]
    total = sum(weight for weight, _ in found)
    return [(weight / total, levels) for weight, levels in found]
