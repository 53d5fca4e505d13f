"""Logit distillation: Hinton et al., "Distilling the knowledge in a neural network", 2015.

https://arxiv.org/abs/1503.02531. The loss is (1 - alpha) cross entropy + alpha T^2 KL(teacher || student). The second
term divides both nets' logits by the temperature T; the factor T^2 keeps the size of its gradient.
"""

from torch import Tensor, nn

from nas.distillation.base import DistillationLoss, DistillationMethod, TeacherEnsemble
from nas.distillation.soft_target_loss import SoftTargetLoss


class LogitDistillation(DistillationMethod):
    """Distillation of softened logits."""

    name = "logits"

    def make_loss(self, ensemble: TeacherEnsemble, net: nn.Module, images: Tensor) -> DistillationLoss:
        """See `DistillationMethod.make_loss`; it needs no feature maps."""
        return SoftTargetLoss(ensemble)


METHOD = LogitDistillation()
