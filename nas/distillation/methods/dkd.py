"""Decoupled distillation: Zhao et al., "Decoupled knowledge distillation", CVPR 2022.

https://arxiv.org/abs/2203.08679. The divergence of `logits` falls into a part about the label against the rest and one
among the rest, which is weighted by what the teacher leaves to the rest: a sure teacher hides it. Here that weight is a
constant. The label of mixed images is that of the larger share.
"""

from torch import Tensor, nn

from nas.distillation.base import Lesson, Pupil, Teaching
from nas.distillation.losses import decoupled
from nas.distillation.soft_targets import SoftPupil

REST = 2.0
"""Weight of the part among the rest. The paper takes 1 to 8, more for surer teachers; those of faces are not sure."""


class DecoupledPupil(SoftPupil):
    """Learns the two parts with weights of their own."""

    def taught_loss(self, logits: Tensor, targets: Tensor, shares: Tensor) -> Tensor:
        """T^2 times the mean of the weighted parts."""
        label, rest = decoupled(logits, shares, targets.argmax(1), self.temperature)
        return self.temperature**2 * (label + REST * rest).mean()


class Decoupled(Lesson):
    """Knowledge distillation that a sure teacher cannot drown."""

    name = "dkd"

    def pupil(self, teaching: Teaching, net: nn.Module, images: Tensor) -> Pupil:
        """See `Lesson.pupil`; any net will do."""
        return DecoupledPupil(teaching)


LESSON = Decoupled()
