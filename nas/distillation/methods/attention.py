"""Attention transfer: Zagoruyko and Komodakis, "Paying more attention to attention", ICLR 2017.

https://arxiv.org/abs/1612.03928. The student's stages shall look where the teacher's look: maps of mean squared
activations, each scaled to length 1, are drawn together in addition to `logits`. Here they are pooled to at most 8 x 8
and averaged with their mirror images, so that a teacher needs to look at each face only once (see
`nas.distillation.teacher_features`). With alpha 0 there are no softened answers in it, as in the paper.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from nas.distillation.base import DistillationLoss, DistillationMethod, TeacherEnsemble
from nas.distillation.feature_maps import FeatureMapLoss, FeatureMapPair, nearest_index, weighted_feature_maps
from nas.distillation.losses import attention_map, average_with_mirror, l2_normalise


class AttentionLoss(FeatureMapLoss):
    """Every map of the net has a partner in every teacher: the level nearest in size."""

    feature_weight = 20.0

    def match_maps(self, ensemble: TeacherEnsemble, relative_sides: Sequence[float]) -> list[FeatureMapPair]:
        """See `FeatureMapLoss.match_maps`."""
        return [
            FeatureMapPair(
                place,
                levels[nearest_index(scale, [level.relative_side for level in levels])],
                weight / len(relative_sides),
            )
            for weight, levels in weighted_feature_maps(ensemble)
            for place, scale in enumerate(relative_sides)
        ]

    def map_distance(self, pair_index: int, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """Mean squared distance of the two maps of length 1, at the smaller of their sizes; 0..2."""
        side = min(*student_map.shape[2:], *teacher_map.shape[2:])
        here = l2_normalise(average_with_mirror(functional.adaptive_avg_pool2d(attention_map(student_map), side)))
        there = l2_normalise(functional.adaptive_avg_pool2d(teacher_map, side))
        return (here - there).square().sum(1).mean()


class AttentionTransfer(DistillationMethod):
    """Look where the teacher looks."""

    name = "attention"
    required_outputs = "attention"

    def make_loss(self, ensemble: TeacherEnsemble, net: nn.Module, images: Tensor) -> DistillationLoss:
        """See `DistillationMethod.make_loss`."""
        return AttentionLoss(ensemble, net, images)


METHOD = AttentionTransfer()
