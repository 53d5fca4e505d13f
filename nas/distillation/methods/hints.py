"""Feature hints: Romero et al., "FitNets: hints for thin deep nets", ICLR 2015.

https://arxiv.org/abs/1412.6550. A 1x1 convolution projects the student's map onto the teacher's middle layer, and their
squared difference is learned from. Here it is learned together with `logits` instead of in a stage of its own, and the
features are pooled and averaged with their mirror images, with mean 0 and deviation 1 in each channel.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from nas.distillation.base import DistillationLoss, DistillationMethod, TeacherEnsemble
from nas.distillation.feature_maps import FeatureMapLoss, FeatureMapPair, nearest_index, weighted_feature_maps
from nas.distillation.losses import average_with_mirror


class HintLoss(FeatureMapLoss):
    """One map of the net, the nearest in size to the teacher's, is projected onto each teacher's level."""

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
            FeatureMapPair(nearest_index(level.relative_side, relative_sides), level, weight / len(levels))
            for weight, levels in weighted_feature_maps(ensemble)
            for level in levels
        ]

    def map_distance(self, pair_index: int, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """Mean squared difference of the projected and the teacher's features, at the teacher's size or below."""
        side = min(*student_map.shape[2:], *teacher_map.shape[2:])
        here = self.projections[pair_index](average_with_mirror(functional.adaptive_avg_pool2d(student_map, side)))
        return functional.mse_loss(here, functional.adaptive_avg_pool2d(teacher_map, side))


class HintDistillation(DistillationMethod):
    """Know in the middle what the teacher knows there."""

    name = "hints"
    required_outputs = "features"

    def make_loss(self, ensemble: TeacherEnsemble, net: nn.Module, images: Tensor) -> DistillationLoss:
        """See `DistillationMethod.make_loss`."""
        return HintLoss(ensemble, net, images)


METHOD = HintDistillation()
