"""Teacher-bounded loss: the student is pushed only where its error exceeds the teacher's by a margin.

Chen et al., "Learning efficient object detection models with knowledge distillation", NeurIPS 2017, for regression;
Lee et al., Appl. Sci. 13(11):6409, 2023 (https://doi.org/10.3390/app13116409), for expressions with valence and
arousal. The error here is the cross entropy with the label, and the temperature is not used; `_losses.pushed` takes any
errors, those of regression targets too.
"""

from torch import Tensor, nn

from nas.distillation.base import Lesson, Pupil, Teaching
from nas.distillation.losses import cross_entropy, pushed
from nas.distillation.soft_targets import SoftPupil

MARGIN = 0.1
"""Nats by which the student may be worse than the teacher without being pushed."""
_FLOOR = 1e-8


class BoundedPupil(SoftPupil):
    """Learns the labels, and those harder that the teachers know better."""

    def taught_loss(self, logits: Tensor, targets: Tensor, shares: Tensor) -> Tensor:
        """Mean of the student's errors beyond the bound."""
        teacher_error = -(targets * shares.clamp_min(_FLOOR).log()).sum(1)
        return pushed(cross_entropy(logits, targets), teacher_error, MARGIN).mean()


class Bounded(Lesson):
    """Distillation that stops where the student has reached the teacher."""

    name = "bounded"

    def pupil(self, teaching: Teaching, net: nn.Module, images: Tensor) -> Pupil:
        """See `Lesson.pupil`; any net will do."""
        return BoundedPupil(teaching, temperature=1.0)


LESSON = Bounded()
