"""Which weights become zero, and when: the smallest, more and more of them as a training goes on.

The schedule is that of Zhu and Gupta (2017, https://arxiv.org/abs/1710.01878): cubic, fast at first while there is much
to spare. A weight that is zero stays zero, because a zero is the smallest there is. Weights of depthwise convolutions
are left alone, as there: they are few, and each is a whole filter's share.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

RAMP_END_PROGRESS = 0.6
"""Progress of a training at which the target is reached; the rest recovers."""
MASK_UPDATES = 100
"""Times per training at which weights may be ranked anew; between them zeros are only held."""
NM_GROUP_SIZE, NM_ZEROS = 4, 2
"""Two of four neighbours along the input channels: what sparse tensor cores skip."""


@dataclass(frozen=True, kw_only=True)
class ParameterGroup:
    """Weights that are ranked together.

    Attributes:
        weights: parameters of two or four dimensions, [out, in, ...]; they are changed in place.
        share: of them that shall be zero, 0..1.
        in_groups: whether at most two of four neighbours along the input channels may be.
    """

    weights: tuple[nn.Parameter, ...]
    sparsity: float
    is_2_4: bool = False

    @property
    def current_sparsity(self) -> float:
        """The share of weights that are zero, 0..1."""
        return sum(int((w == 0).sum()) for w in self.weights) / sum(w.numel() for w in self.weights)


class MagnitudePruner:
    """Holds zeros in the weights of some pools while a net learns. What is zero at first counts as reached.

    Args:
        pools: with disjoint weights.
    """

    def __init__(self, groups: Sequence[ParameterGroup]) -> None:
        self._groups = groups
        self._initial_sparsities = [pool.current_sparsity for pool in groups]
        self._masks: dict[nn.Parameter, Tensor] = {}
        self._last_update = -1

    def before_step(self, progress: float) -> None:
        """Zero what must be zero at this progress of the training, 0..1."""
        tick = min(int(progress * MASK_UPDATES), int(RAMP_END_PROGRESS * MASK_UPDATES))
        if tick == self._last_update:
            self._apply_masks()
            return
        self._last_update = tick
        self._apply_masks()
        for pool, start in zip(self._groups, self._initial_sparsities, strict=True):
            self._update_masks(pool, cubic_sparsity(tick / MASK_UPDATES, initial=start, final=pool.sparsity))

    def finish(self) -> None:
        """Zero what must be zero in the end, however far the training came."""
        self._apply_masks()
        for pool in self._groups:
            self._update_masks(pool, pool.sparsity)

    @torch.no_grad()
    def _apply_masks(self) -> None:
        for weight, mask in self._masks.items():
            weight.mul_(mask.to(weight.device))

    @torch.no_grad()
    def _update_masks(self, group: ParameterGroup, sparsity: float) -> None:
        sparsify(group, sparsity)
        self._masks.update({weight: (weight != 0).to(weight.dtype) for weight in group.weights})


def cubic_sparsity(progress: float, *, initial: float, final: float) -> float:
    """The share of zeros at a progress of the training, both 0..1: cubic from `initial` to `final`, never less."""
    left = 1 - min(1.0, progress / RAMP_END_PROGRESS)
    return max(initial, final + (initial - final) * left**3)


@torch.no_grad()
def sparsify(group: ParameterGroup, sparsity: float) -> None:
    """Zero the smallest weights of a pool until `sparsity` of them (rounded down) are zero; zeros count as smallest.

    One layer is ranked by magnitude, several by LAMP (Lee et al. 2021, https://arxiv.org/abs/2010.07611): the square
    over the sum of squares that are not smaller within the layer. It does not depend on a layer's scale, which batch
    norm makes arbitrary, and no layer loses its last weight before the others lose theirs.
    """
    scores = [_importance(weight, is_2_4=group.is_2_4) for weight in group.weights]
    count = int(sparsity * sum(s.numel() for s in scores) + 1e-9)
    order = torch.cat(scores).argsort(stable=True)[:count]
    gone = torch.zeros(sum(s.numel() for s in scores), dtype=torch.bool, device=order.device)
    gone[order] = True
    sizes = [weight.numel() for weight in group.weights]
    for weight, part in zip(group.weights, torch.split(gone, sizes), strict=True):
        weight.masked_fill_(part.view(weight.shape), 0)


def supports_2_4_sparsity(weight: Tensor, *, min_channels: int) -> bool:
    """Whether a layer's weight [out, in, ...] has `min_channels` or more on both sides, in whole groups of four."""
    return min(weight.shape[:2]) >= min_channels and weight.shape[1] % NM_GROUP_SIZE == 0


def is_prunable(parameter: Tensor) -> bool:
    """Whether a parameter is the weight of a linear layer or of a convolution that is not depthwise."""
    return parameter.ndim in (2, 4) and parameter.shape[1] > 1


def _importance(weight: Tensor, *, is_2_4: bool) -> Tensor:
    """What each weight is worth, [numel], in the order of `reshape(-1)`; infinite where it must stay."""
    squares = weight.detach().double().square()
    if is_2_4:
        last = squares.transpose(1, -1)
        groups = last.reshape(*last.shape[:-1], -1, NM_GROUP_SIZE)  # [out, ..., in / 4, 4]
        ranks = groups.argsort(dim=-1, stable=True).argsort(dim=-1)
        stays = (ranks >= NM_ZEROS).flatten(-2).transpose(1, -1)  # [out, in, ...]
        squares = squares.masked_fill(stays, torch.inf)
        return squares.reshape(-1)
    ordered, order = squares.reshape(-1).sort(stable=True)
    rest = ordered.flip(0).cumsum(0).flip(0)
    scores = torch.empty_like(ordered)
    scores[order] = ordered / rest.clamp(min=torch.finfo(rest.dtype).tiny)
    return scores
