"""Decoupled distillation: Zhao et al., "Decoupled knowledge distillation", CVPR 2022.

https://arxiv.org/abs/2203.08679. The divergence of `logits` falls into a part about the label against the rest and one
among the rest, which is weighted by what the teacher leaves to the rest: a sure teacher hides it. Here that weight is a
constant. The label of mixed images is that of the larger share.
"""

from torch import Tensor, nn

from nas.distillation.base import DistillationLoss, DistillationMethod, TeacherEnsemble
from nas.distillation.losses import decoupled_kl_divergence
from nas.distillation.soft_targets import SoftTargetLoss

NON_TARGET_WEIGHT = 2.0
"""Weight of the part among the rest. The paper takes 1 to 8, more for surer teachers; those of faces are not sure."""


class DecoupledLoss(SoftTargetLoss):
    """Learns the two parts with weights of their own."""

    def teacher_loss(self, logits: Tensor, targets: Tensor, teacher_probabilities: Tensor) -> Tensor:
        """T^2 times the mean of the weighted parts."""
        label, rest = decoupled_kl_divergence(logits, teacher_probabilities, targets.argmax(1), self.temperature)
        return self.temperature**2 * (label + NON_TARGET_WEIGHT * rest).mean()


class DecoupledDistillation(DistillationMethod):
    """Knowledge distillation that a sure teacher cannot drown."""

    name = "dkd"

    def make_loss(self, ensemble: TeacherEnsemble, net: nn.Module, images: Tensor) -> DistillationLoss:
        """See `DistillationMethod.make_loss`; any net will do."""
        return DecoupledLoss(ensemble)


METHOD = DecoupledDistillation()
