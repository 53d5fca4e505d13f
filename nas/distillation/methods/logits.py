"""Logits with a temperature: Hinton et al., "Distilling the knowledge in a neural network", 2015.

https://arxiv.org/abs/1503.02531. The loss is (1 - alpha) cross entropy + alpha T^2 KL(teacher || student), both
softened by T in the second term; T^2 keeps the size of its gradient.
"""

from torch import Tensor, nn

from nas.distillation.base import Lesson, Pupil, Teaching
from nas.distillation.soft_targets import SoftPupil


class Logits(Lesson):
    """Knowledge distillation from softened answers."""

    name = "logits"

    def pupil(self, teaching: Teaching, net: nn.Module, images: Tensor) -> Pupil:
        """See `Lesson.pupil`; any net will do."""
        return SoftPupil(teaching)


LESSON = Logits()
