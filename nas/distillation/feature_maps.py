"""Feature-map losses: recording a student's maps in training, and pairing them with layers of the teachers."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nas.distillation.base import FeatureMap, TeacherEnsemble
from nas.distillation.soft_target_loss import SoftTargetLoss
from nas.errors import BuildError


class FeatureMapRecorder:
    """Recorder of the last map [N, C, H, W] of each unit of a net; a unit is the first part of a module's name.

    It leaves out maps of one pixel, and maps with no more channels than the images (pre-processing). Of several units
    with maps of one size it records the last.

    Attributes:
        channels: of each recorded unit, in order of execution.
        relative_sides: side of each recorded map as a share of the images' side.
    """

    def __init__(self, net: nn.Module, images: Tensor) -> None:
        """Find the maps by a forward pass of a net in eval mode, and record them until `close`.

        Args:
            net: the net; forward hooks stay on it until `close`.
            images: [N, C, H, W], on the net's device.

        Raises:
            BuildError: no unit has a map.
        """
        unit_outputs: dict[str, tuple[nn.Module, torch.Size]] = {}

        def shape_hook(unit: str) -> Any:
            def hook(module: nn.Module, _: Any, output: Any) -> None:
                is_map = isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1
                if is_map and output.shape[1] > images.shape[1]:
                    unit_outputs.pop(unit, None)  # so that the order is that of each unit's last map
                    unit_outputs[unit] = module, output.shape

            return hook

        handles = [m.register_forward_hook(shape_hook(name.split(".")[0])) for name, m in net.named_modules() if name]
        with torch.no_grad():
            net(images)
        for handle in handles:
            handle.remove()
        last_by_side = {shape[2]: (module, shape) for module, shape in unit_outputs.values()}
        if not last_by_side:
            raise BuildError(
                "a net must have feature maps of more than one pixel to be compared with a teacher's, but has none; "
                "use --distill logits"
            )
        self.channels = [shape[1] for _, shape in last_by_side.values()]
        self.relative_sides = [side / images.shape[2] for side in last_by_side]
        self._maps: list[Tensor | None] = [None] * len(last_by_side)
        self._handles = [
            module.register_forward_hook(self._recording_hook(i)) for i, (module, _) in enumerate(last_by_side.values())
        ]

    def _recording_hook(self, index: int) -> Any:
        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            self._maps[index] = output

        return hook

    def maps(self) -> list[Tensor]:
        """Maps of the last forward pass, each [N, C, H, W] float32."""
        return [recorded.float() for recorded in self._maps if recorded is not None]

    def close(self) -> None:
        """Remove the hooks and release the maps."""
        for handle in self._handles:
            handle.remove()
        self._maps = [None] * len(self._maps)


@dataclass(frozen=True)
class FeatureMapPair:
    """A map of the student and the teacher's map that it is compared with.

    Attributes:
        student_index: index of the student's map in `FeatureMapRecorder.maps`.
        teacher_map: the teacher's map.
        weight: share of this pair in the feature loss; the weights of all pairs sum to 1.
    """

    student_index: int
    teacher_map: FeatureMap
    weight: float


class FeatureMapLoss(SoftTargetLoss):
    """Soft-target loss plus a weighted distance between maps of the student and of the teachers."""

    feature_weight: float
    """Factor of the mean distance over the pairs."""

    def __init__(self, ensemble: TeacherEnsemble, net: nn.Module, images: Tensor) -> None:
        super().__init__(ensemble)
        self.recorder = FeatureMapRecorder(net, images)
        self.pairs = self.match_maps(ensemble, self.recorder.relative_sides)
        for i, pair in enumerate(self.pairs):
            self.register_buffer(f"teacher_map{i}", torch.from_numpy(pair.teacher_map.values), persistent=False)

    def gather(self, indices: Tensor, views: Tensor) -> tuple[Tensor, ...]:
        """Probabilities [B, K] of the ensemble, then the teacher's map [B, C, h, w] of each pair."""
        buffers = (self.get_buffer(f"teacher_map{i}") for i in range(len(self.pairs)))
        return (*super().gather(indices, views), *(values.index_select(0, indices).float() for values in buffers))

    def loss(self, logits: Tensor, targets: Tensor, teacher_outputs: tuple[Tensor, ...]) -> Tensor:
        """See `DistillationLoss.loss`."""
        maps = self.recorder.maps()
        distances = [
            pair.weight * self.map_distance(i, maps[pair.student_index], teacher_map)
            for i, (pair, teacher_map) in enumerate(zip(self.pairs, teacher_outputs[1:], strict=True))
        ]
        return super().loss(logits, targets, teacher_outputs[:1]) + self.feature_weight * torch.stack(distances).sum()

    def close(self) -> None:
        """Remove hooks from the student."""
        self.recorder.close()

    @abstractmethod
    def match_maps(self, ensemble: TeacherEnsemble, relative_sides: Sequence[float]) -> list[FeatureMapPair]:
        """Pairs of student and teacher maps.

        Args:
            ensemble: the teachers, at least one of them with maps.
            relative_sides: of the student's maps, in order of execution.
        """

    @abstractmethod
    def map_distance(self, pair_index: int, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """Distance between a student's map [B, C, H, W] and a teacher's map [B, c, h, w], a scalar."""


def nearest_index(relative_side: float, candidates: Sequence[float]) -> int:
    """Index of the side that is nearest by ratio; the last of those that are equally near."""
    # Rounded, so that ratios like 1/2 and 2 of one side tie in spite of floating point.
    return min(range(len(candidates)), key=lambda i: (round(abs(math.log(candidates[i] / relative_side)), 6), -i))


def weighted_feature_maps(ensemble: TeacherEnsemble) -> list[tuple[float, tuple[FeatureMap, ...]]]:
    """Weight and maps of each teacher that has maps; these weights sum to 1."""
    with_maps = [(teacher.weight, teacher.feature_maps) for teacher in ensemble.teachers if teacher.feature_maps]
    total = sum(weight for weight, _ in with_maps)
    return [(weight / total, maps) for weight, maps in with_maps]
