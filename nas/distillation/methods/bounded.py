"""Teacher-bounded loss: the student is pushed only where its error exceeds the teacher's by a margin.

Chen et al., "Learning efficient object detection models with knowledge distillation", NeurIPS 2017, for regression;
Lee et al., Appl. Sci. 13(11):6409, 2023 (https://doi.org/10.3390/app13116409), for expressions with valence and
arousal. The error here is the cross entropy with the label, and the temperature is not used; `_losses.pushed` takes any
errors, those of regression targets too.
"""

from torch import Tensor, nn

from nas.distillation.base import DistillationLoss, DistillationMethod, TeacherEnsemble
from nas.distillation.losses import cross_entropy, teacher_bounded_error
from nas.distillation.soft_targets import SoftTargetLoss

MARGIN_NATS = 0.1
"""Nats by which the student may be worse than the teacher without being pushed."""
_MIN_PROBABILITY = 1e-8


class TeacherBoundedLoss(SoftTargetLoss):
    """Learns the labels, and those harder that the teachers know better."""

    def teacher_loss(self, logits: Tensor, targets: Tensor, teacher_probabilities: Tensor) -> Tensor:
        """Mean of the student's errors beyond the bound."""
        teacher_error = -(targets * teacher_probabilities.clamp_min(_MIN_PROBABILITY).log()).sum(1)
        return teacher_bounded_error(cross_entropy(logits, targets), teacher_error, MARGIN_NATS).mean()


class TeacherBoundedDistillation(DistillationMethod):
    """Distillation that stops where the student has reached the teacher."""

    name = "bounded"

    def make_loss(self, ensemble: TeacherEnsemble, net: nn.Module, images: Tensor) -> DistillationLoss:
        """See `DistillationMethod.make_loss`; any net will do."""
        return TeacherBoundedLoss(ensemble, temperature=1.0)


METHOD = TeacherBoundedDistillation()
