"""Attention transfer: Zagoruyko and Komodakis, "Paying more attention to attention", ICLR 2017.

https://arxiv.org/abs/1612.03928. The student's stages shall look where the teacher's look: maps of mean squared
activations, each scaled to length 1, are drawn together in addition to `logits`. Here they are pooled to at most 8 x 8
and averaged with their mirror images, so that a teacher needs to look at each face only once (see
`nas.distillation.teacher_features`). With alpha 0 there are no softened answers in it, as in the paper.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from nas.distillation.base import Lesson, Pupil, Teaching
from nas.distillation.feature_maps import MapPupil, Pair, by_teacher, nearest
from nas.distillation.losses import attention, mirrored, unit


class AttentionPupil(MapPupil):
    """Every map of the net has a partner in every teacher: the level nearest in size."""

    strength = 20.0

    def paired(self, teaching: Teaching, scales: Sequence[float]) -> list[Pair]:
        """See `MapPupil.paired`."""
        return [
            Pair(place, levels[nearest(scale, [level.scale for level in levels])], weight / len(scales))
            for weight, levels in by_teacher(teaching)
            for place, scale in enumerate(scales)
        ]

    def difference(self, pair: int, mine: Tensor, theirs: Tensor) -> Tensor:
        """Mean squared distance of the two maps of length 1, at the smaller of their sizes; 0..2."""
        side = min(*mine.shape[2:], *theirs.shape[2:])
        here = unit(mirrored(functional.adaptive_avg_pool2d(attention(mine), side)))
        there = unit(functional.adaptive_avg_pool2d(theirs, side))
        return (here - there).square().sum(1).mean()


class Attention(Lesson):
    """Look where the teacher looks."""

    name = "attention"
    wants = "attention"

    def pupil(self, teaching: Teaching, net: nn.Module, images: Tensor) -> Pupil:
        """See `Lesson.pupil`."""
        return AttentionPupil(teaching, net, images)


LESSON = Attention()
