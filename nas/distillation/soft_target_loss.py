"""Soft-target loss: the common form of all methods, a weighted sum of a label loss and a teacher loss."""

from torch import Tensor

from nas.distillation.base import DistillationLoss, TeacherEnsemble
from nas.distillation.losses import cross_entropy, kl_divergence


class SoftTargetLoss(DistillationLoss):
    """(1 - alpha) cross entropy with the labels + alpha `teacher_loss`, by default T^2 KL(teachers || student)."""

    probabilities: Tensor

    def __init__(self, ensemble: TeacherEnsemble, temperature: float | None = None) -> None:
        super().__init__()
        self.alpha = ensemble.alpha
        self.temperature = ensemble.temperature if temperature is None else temperature
        self.register_buffer("probabilities", ensemble.probabilities(self.temperature), persistent=False)

    def gather(self, indices: Tensor, views: Tensor) -> tuple[Tensor, ...]:
        """Probabilities [B, K] of the ensemble."""
        return (self.probabilities[views, indices],)

    def loss(self, logits: Tensor, targets: Tensor, teacher_outputs: tuple[Tensor, ...]) -> Tensor:
        """See `DistillationLoss.loss`."""
        label_loss = cross_entropy(logits, targets).mean()
        return (1 - self.alpha) * label_loss + self.alpha * self.teacher_loss(logits, targets, teacher_outputs[0])

    def teacher_loss(self, logits: Tensor, targets: Tensor, teacher_probabilities: Tensor) -> Tensor:
        """The share of the loss that comes from the ensemble's probabilities [B, K], a scalar."""
        # Gradients of softened logits shrink as 1 / T^2 (Hinton et al. 2015, section 2), so T^2 restores their size.
        return self.temperature**2 * kl_divergence(logits, teacher_probabilities, self.temperature).mean()
