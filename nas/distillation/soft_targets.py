"""The common form of lessons: labels and the teachers' probabilities share the loss."""

from torch import Tensor

from nas.distillation.base import Pupil, Teaching
from nas.distillation.losses import cross_entropy, divergence


class SoftPupil(Pupil):
    """(1 - alpha) cross entropy with the labels + alpha times `taught_loss`, which is T^2 KL(teachers || student)."""

    shares: Tensor

    def __init__(self, teaching: Teaching, temperature: float | None = None) -> None:
        super().__init__()
        self.alpha = teaching.alpha
        self.temperature = teaching.temperature if temperature is None else temperature
        self.register_buffer("shares", teaching.shares(self.temperature), persistent=False)

    def gather(self, rows: Tensor) -> tuple[Tensor, ...]:
        """The teachers' probabilities [B, K]."""
        return (self.shares.index_select(0, rows),)

    def loss(self, logits: Tensor, targets: Tensor, taught: tuple[Tensor, ...]) -> Tensor:
        """See `Pupil.loss`."""
        by_labels = cross_entropy(logits, targets).mean()
        return (1 - self.alpha) * by_labels + self.alpha * self.taught_loss(logits, targets, taught[0])

    def taught_loss(self, logits: Tensor, targets: Tensor, shares: Tensor) -> Tensor:
        """The loss that the teachers' probabilities [B, K] give, a scalar; T^2 keeps the size of its gradient."""
        return self.temperature**2 * divergence(logits, shares, self.temperature).mean()
