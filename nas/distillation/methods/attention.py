"""Attention transfer: Zagoruyko and Komodakis, "Paying more attention to attention", ICLR 2017.

https://arxiv.org/abs/1612.03928. In addition to the loss of `logits`, each stage's attention map (the mean of the
squared activations over channels, scaled to length 1) is pulled towards the teacher's.

Different here:
- Maps are pooled to at most 8 x 8 and averaged with their mirror images, so that one forward pass of the teacher for
  each image suffices (see `nas.distillation.teacher_features`).
- The soft-target loss is added; with alpha 0 it vanishes, as in the paper.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from nas.distillation.base import DistillationLoss, DistillationMethod, TeacherEnsemble
from nas.distillation.feature_maps import FeatureMapLoss, FeatureMapPair, nearest_index, weighted_feature_maps
from nas.distillation.losses import attention_map, average_with_mirror, l2_normalise


class AttentionLoss(FeatureMapLoss):
    """Every map of the student is paired with one map of every teacher: the nearest in size."""

    feature_weight = 20.0

    def match_maps(self, ensemble: TeacherEnsemble, relative_sides: Sequence[float]) -> list[FeatureMapPair]:
        """See `FeatureMapLoss.match_maps`."""
        return [
            FeatureMapPair(
                student_index,
                maps[nearest_index(side, [teacher_map.relative_side for teacher_map in maps])],
                weight / len(relative_sides),
            )
            for weight, maps in weighted_feature_maps(ensemble)
            for student_index, side in enumerate(relative_sides)
        ]

    def map_distance(self, pair_index: int, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """Mean squared distance of the two maps of length 1, at the smaller of their sizes; 0..2."""
        side = min(*student_map.shape[2:], *teacher_map.shape[2:])
        student = l2_normalise(average_with_mirror(functional.adaptive_avg_pool2d(attention_map(student_map), side)))
        teacher = l2_normalise(functional.adaptive_avg_pool2d(teacher_map, side))
        return (student - teacher).square().sum(1).mean()


class AttentionTransfer(DistillationMethod):
    """Distillation of logits and of attention maps."""

    name = "attention"
    required_outputs = "attention"

    def make_loss(self, ensemble: TeacherEnsemble, net: nn.Module, images: Tensor) -> DistillationLoss:
        """See `DistillationMethod.make_loss`."""
        return AttentionLoss(ensemble, net, images)


METHOD = AttentionTransfer()
