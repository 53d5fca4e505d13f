"""Teacher-bounded loss: a sample counts only where the student's error exceeds the teacher's by a margin.

Sources:
- Chen et al., "Learning efficient object detection models with knowledge distillation", NeurIPS 2017, for regression.
- Lee et al., Appl. Sci. 13(11):6409, 2023 (https://doi.org/10.3390/app13116409), for expressions with valence and
  arousal.

Different here: the error is the cross entropy with the label, and the temperature is not used.
`nas.distillation.losses.teacher_bounded_error` accepts any errors, those of regression targets too.
"""

from torch import Tensor, nn

from nas.distillation.base import DistillationLoss, DistillationMethod, TeacherEnsemble
from nas.distillation.losses import cross_entropy, teacher_bounded_error
from nas.distillation.soft_target_loss import SoftTargetLoss

MARGIN_NATS = 0.1
"""Nats by which the student's error may exceed the teacher's without a loss."""
_MIN_PROBABILITY = 1e-8


class TeacherBoundedLoss(SoftTargetLoss):
    """Cross entropy with the labels, weighted more where the teachers' error is lower than the student's."""

    def teacher_loss(self, logits: Tensor, targets: Tensor, teacher_probabilities: Tensor) -> Tensor:
        """Mean of the student's errors beyond the bound."""
        teacher_error = -(targets * teacher_probabilities.clamp_min(_MIN_PROBABILITY).log()).sum(1)
        return teacher_bounded_error(cross_entropy(logits, targets), teacher_error, MARGIN_NATS).mean()


class TeacherBoundedDistillation(DistillationMethod):
    """Distillation that ends for each sample where the student is as good as the teacher."""

    name = "bounded"

    def make_loss(self, ensemble: TeacherEnsemble, net: nn.Module, images: Tensor) -> DistillationLoss:
        """See `DistillationMethod.make_loss`; it needs no feature maps."""
        return TeacherBoundedLoss(ensemble, temperature=1.0)


METHOD = TeacherBoundedDistillation()
