"""Decoupled knowledge distillation: Zhao et al., "Decoupled knowledge distillation", CVPR 2022.

https://arxiv.org/abs/2203.08679. The divergence of `logits` is the sum of a target-class part and a non-target-class
part. The second is weighted by the probability that the teacher leaves to the other classes, so a confident teacher
suppresses it. Here, as in the paper, a constant replaces that weight. The target class of a mixed image is the label
with the larger share.
"""

from torch import Tensor, nn

from nas.distillation.base import DistillationLoss, DistillationMethod, TeacherEnsemble
from nas.distillation.losses import decoupled_kl_divergence
from nas.distillation.soft_target_loss import SoftTargetLoss

NON_TARGET_WEIGHT = 2.0
"""Weight of the non-target part. The paper takes 1 to 8, more for confident teachers; those of faces are not."""


class DecoupledLoss(SoftTargetLoss):
    """Soft-target loss whose target-class and non-target-class parts have separate weights."""

    def teacher_loss(self, logits: Tensor, targets: Tensor, teacher_probabilities: Tensor) -> Tensor:
        """T^2 times the mean of the weighted parts."""
        target_part, non_target_part = decoupled_kl_divergence(
            logits, teacher_probabilities, targets.argmax(1), self.temperature
        )
        return self.temperature**2 * (target_part + NON_TARGET_WEIGHT * non_target_part).mean()


class DecoupledDistillation(DistillationMethod):
    """Distillation in which the non-target classes count as much for a confident teacher as for an uncertain one."""

    name = "dkd"

    def make_loss(self, ensemble: TeacherEnsemble, net: nn.Module, images: Tensor) -> DistillationLoss:
        """See `DistillationMethod.make_loss`; it needs no feature maps."""
        return DecoupledLoss(ensemble)


METHOD = DecoupledDistillation()
