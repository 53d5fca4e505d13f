"""Logits with a temperature: Hinton et al., "Distilling the knowledge in a neural network", 2015.

https://arxiv.org/abs/1503.02531. The loss is (1 - alpha) cross entropy + alpha T^2 KL(teacher || student), both
softened by T in the second term; T^2 keeps the size of its gradient.
"""

from torch import Tensor, nn

from nas.distillation.base import DistillationLoss, DistillationMethod, TeacherEnsemble
from nas.distillation.soft_targets import SoftTargetLoss


class LogitDistillation(DistillationMethod):
    """Knowledge distillation from softened answers."""

    name = "logits"

    def make_loss(self, ensemble: TeacherEnsemble, net: nn.Module, images: Tensor) -> DistillationLoss:
        """See `DistillationMethod.make_loss`; any net will do."""
        return SoftTargetLoss(ensemble)


METHOD = LogitDistillation()
