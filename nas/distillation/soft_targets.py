"""The common form of lessons: labels and the teachers' probabilities share the loss."""

from torch import Tensor

from nas.distillation.base import DistillationLoss, TeacherEnsemble
from nas.distillation.losses import cross_entropy, kl_divergence


class SoftTargetLoss(DistillationLoss):
    """(1 - alpha) cross entropy with the labels + alpha times `taught_loss`, which is T^2 KL(teachers || student)."""

    shares: Tensor

    def __init__(self, ensemble: TeacherEnsemble, temperature: float | None = None) -> None:
        super().__init__()
        self.alpha = ensemble.alpha
        self.temperature = ensemble.temperature if temperature is None else temperature
        self.register_buffer("shares", ensemble.probabilities(self.temperature), persistent=False)

    def gather(self, indices: Tensor) -> tuple[Tensor, ...]:
        """The teachers' probabilities [B, K]."""
        return (self.shares.index_select(0, indices),)

    def loss(self, logits: Tensor, targets: Tensor, teacher_outputs: tuple[Tensor, ...]) -> Tensor:
        """See `DistillationLoss.loss`."""
        by_labels = cross_entropy(logits, targets).mean()
        return (1 - self.alpha) * by_labels + self.alpha * self.teacher_loss(logits, targets, teacher_outputs[0])

    def teacher_loss(self, logits: Tensor, targets: Tensor, teacher_probabilities: Tensor) -> Tensor:
        """The loss that the teachers' probabilities [B, K] give, a scalar; T^2 keeps the size of its gradient."""
        return self.temperature**2 * kl_divergence(logits, teacher_probabilities, self.temperature).mean()
