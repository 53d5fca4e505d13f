"""Feature hints: Romero et al., "FitNets: hints for thin deep nets", ICLR 2015.

https://arxiv.org/abs/1412.6550. A 1x1 convolution projects the student's map onto the teacher's middle layer, and their
squared difference is learned from. Here it is learned together with `logits` instead of in a stage of its own, and the
features are pooled and averaged with their mirror images, with mean 0 and deviation 1 in each channel.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from nas.distillation.base import Lesson, Pupil, Teaching
from nas.distillation.feature_maps import MapPupil, Pair, by_teacher, nearest
from nas.distillation.losses import mirrored


class HintPupil(MapPupil):
    """One map of the net, the nearest in size to the teacher's, is projected onto each teacher's level."""

    strength = 1.0

    def __init__(self, teaching: Teaching, net: nn.Module, images: Tensor) -> None:
        super().__init__(teaching, net, images)
        self.projections = nn.ModuleList(
            nn.Conv2d(self.watched.channels[pair.place], pair.level.values.shape[1], 1) for pair in self.pairs
        )

    def paired(self, teaching: Teaching, scales: Sequence[float]) -> list[Pair]:
        """See `MapPupil.paired`."""
        return [
            Pair(nearest(level.scale, scales), level, weight / len(levels))
            for weight, levels in by_teacher(teaching)
            for level in levels
        ]

    def difference(self, pair: int, mine: Tensor, theirs: Tensor) -> Tensor:
        """Mean squared difference of the projected and the teacher's features, at the teacher's size or below."""
        side = min(*mine.shape[2:], *theirs.shape[2:])
        here = self.projections[pair](mirrored(functional.adaptive_avg_pool2d(mine, side)))
        return functional.mse_loss(here, functional.adaptive_avg_pool2d(theirs, side))


class Hints(Lesson):
    """Know in the middle what the teacher knows there."""

    name = "hints"
    wants = "features"

    def pupil(self, teaching: Teaching, net: nn.Module, images: Tensor) -> Pupil:
        """See `Lesson.pupil`."""
        return HintPupil(teaching, net, images)


LESSON = Hints()
