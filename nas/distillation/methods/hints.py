"""Feature hints: Romero et al., "FitNets: hints for thin deep nets", ICLR 2015.

https://arxiv.org/abs/1412.6550. A 1x1 convolution projects a map of the student onto the teacher's middle layer; the
loss is their squared difference.

Different here:
- The hint is trained together with the loss of `logits`, not in a stage of its own.
- The teacher's features are pooled, averaged with their mirror images, and standardised to mean 0 and deviation 1 in
  each channel.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from nas.distillation.base import DistillationLoss, DistillationMethod, TeacherEnsemble
from nas.distillation.feature_maps import FeatureMapLoss, FeatureMapPair, nearest_index, weighted_feature_maps
from nas.distillation.losses import average_with_mirror


class HintLoss(FeatureMapLoss):
    """For each teacher's map, the student's map that is nearest in size is projected onto it."""

    feature_weight = 1.0

    def __init__(self, ensemble: TeacherEnsemble, net: nn.Module, images: Tensor) -> None:
        super().__init__(ensemble, net, images)
        self.projections = nn.ModuleList(
            nn.Conv2d(self.recorder.channels[pair.student_index], pair.teacher_map.values.shape[1], 1)
            for pair in self.pairs
        )

    def match_maps(self, ensemble: TeacherEnsemble, relative_sides: Sequence[float]) -> list[FeatureMapPair]:
        """See `FeatureMapLoss.match_maps`."""
        return [
            FeatureMapPair(nearest_index(teacher_map.relative_side, relative_sides), teacher_map, weight / len(maps))
            for weight, maps in weighted_feature_maps(ensemble)
            for teacher_map in maps
        ]

    def map_distance(self, pair_index: int, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """Mean squared difference of the projected and the teacher's features, at the smaller of their sizes."""
        side = min(*student_map.shape[2:], *teacher_map.shape[2:])
        pooled = average_with_mirror(functional.adaptive_avg_pool2d(student_map, side))
        return functional.mse_loss(
            self.projections[pair_index](pooled), functional.adaptive_avg_pool2d(teacher_map, side)
        )


class HintDistillation(DistillationMethod):
    """Distillation of logits and of the teacher's middle features."""

    name = "hints"
    required_outputs = "features"

    def make_loss(self, ensemble: TeacherEnsemble, net: nn.Module, images: Tensor) -> DistillationLoss:
        """See `DistillationMethod.make_loss`."""
        return HintLoss(ensemble, net, images)


METHOD = HintDistillation()
