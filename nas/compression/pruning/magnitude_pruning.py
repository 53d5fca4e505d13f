"""Masks of unstructured pruning: the smallest weights become zero, more of them as the training progresses.

The schedule is that of Zhu and Gupta (2017, https://arxiv.org/abs/1710.01878): cubic, fast at first while many weights
are redundant. A zero weight stays zero, because zero is the smallest magnitude. As in that paper, weights of depthwise
convolutions are not pruned: they are few, and each is a large share of a filter.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

RAMP_END_PROGRESS = 0.6
"""Progress of a training at which the target sparsity is reached; the rest recovers the accuracy."""
MASK_UPDATES = 100
"""Number of times per training at which weights may be ranked anew; between them the masks are only applied."""
NM_GROUP_SIZE, NM_ZEROS = 4, 2
"""Two of four neighbours along the input channels: the pattern that sparse tensor cores skip."""


@dataclass(frozen=True, kw_only=True)
class ParameterGroup:
    """Weights that are ranked together.

    Attributes:
        weights: parameters of two or four dimensions, [out, in, ...]; they are changed in place.
        sparsity: target share of zeros, 0..1.
        is_2_4: whether at most two of four neighbours along the input channels may be zero.
    """

    weights: tuple[nn.Parameter, ...]
    sparsity: float
    is_2_4: bool = False

    @property
    def current_sparsity(self) -> float:
        """The share of weights that are zero, 0..1."""
        return sum(int((w == 0).sum()) for w in self.weights) / sum(w.numel() for w in self.weights)


class MagnitudePruner:
    """Raises the sparsity of parameter groups while a net trains; existing zeros count towards the target.

    Life: `before_step` before each training step, `finish` once after the last one.

    Args:
        groups: with disjoint weights.
    """

    def __init__(self, groups: Sequence[ParameterGroup]) -> None:
        self._groups = groups
        self._initial_sparsities = [group.current_sparsity for group in groups]
        self._masks: dict[nn.Parameter, Tensor] = {}
        self._last_update = -1

    def before_step(self, progress: float) -> None:
        """Zero the weights that the schedule removes at this progress of the training, 0..1."""
        update = min(int(progress * MASK_UPDATES), int(RAMP_END_PROGRESS * MASK_UPDATES))
        if update == self._last_update:
            self._apply_masks()
            return
        self._last_update = update
        self._apply_masks()  # first, so that weights which the optimiser moved off zero rank last again
        for group, start in zip(self._groups, self._initial_sparsities, strict=True):
            self._update_masks(group, cubic_sparsity(update / MASK_UPDATES, initial=start, final=group.sparsity))

    def finish(self) -> None:
        """Reach the target sparsity, however far the training came."""
        self._apply_masks()
        for group in self._groups:
            self._update_masks(group, group.sparsity)

    @torch.no_grad()
    def _apply_masks(self) -> None:
        for weight, mask in self._masks.items():
            weight.mul_(mask.to(weight.device))

    @torch.no_grad()
    def _update_masks(self, group: ParameterGroup, sparsity: float) -> None:
        sparsify(group, sparsity)
        self._masks.update({weight: (weight != 0).to(weight.dtype) for weight in group.weights})


def cubic_sparsity(progress: float, *, initial: float, final: float) -> float:
    """Sparsity at a progress of the training, 0..1: cubic from `initial` to `final`, never below `initial`."""
    remaining = 1 - min(1.0, progress / RAMP_END_PROGRESS)
    return max(initial, final + (initial - final) * remaining**3)  # equation 1 of Zhu and Gupta


@torch.no_grad()
def sparsify(group: ParameterGroup, sparsity: float) -> None:
    """Zero the smallest weights of a group until `sparsity` of them (rounded down) are zero; existing zeros come first.

    A single layer is ranked by magnitude. Several layers are ranked by LAMP (Lee et al. 2021,
    https://arxiv.org/abs/2010.07611): the square of a weight over the sum of the squares in its layer that are not
    smaller. LAMP does not depend on a layer's scale, which batch norm makes arbitrary, and no layer loses its last
    weight before the others lose theirs.

    Args:
        group: the weights, changed in place.
        sparsity: share of zeros, 0..1; with the 2:4 pattern at most 0.5 can be reached.
    """
    scores = [_importance(weight, is_2_4=group.is_2_4) for weight in group.weights]
    total = sum(score.numel() for score in scores)
    count = int(sparsity * total + 1e-9)  # 1e-9: 0.29 * 100 must give 29 in spite of rounding
    order = torch.cat(scores).argsort(stable=True)[:count]
    removed = torch.zeros(total, dtype=torch.bool, device=order.device)
    removed[order] = True
    sizes = [weight.numel() for weight in group.weights]
    for weight, mask in zip(group.weights, torch.split(removed, sizes), strict=True):
        weight.masked_fill_(mask.view(weight.shape), 0)


def supports_2_4_sparsity(weight: Tensor, *, min_channels: int) -> bool:
    """Whether a layer's weight [out, in, ...] has `min_channels` or more on both sides, in whole groups of four."""
    return min(weight.shape[:2]) >= min_channels and weight.shape[1] % NM_GROUP_SIZE == 0


def is_prunable(parameter: Tensor) -> bool:
    """Whether a parameter is the weight of a linear layer or of a convolution that is not depthwise."""
    return parameter.ndim in (2, 4) and parameter.shape[1] > 1


def _importance(weight: Tensor, *, is_2_4: bool) -> Tensor:
    """Importance of each weight, [numel], in the order of `reshape(-1)`; infinite where a weight must be kept."""
    squares = weight.detach().double().square()
    if is_2_4:
        channels_last = squares.transpose(1, -1)
        groups = channels_last.reshape(*channels_last.shape[:-1], -1, NM_GROUP_SIZE)  # [out, ..., in / 4, 4]
        ranks = groups.argsort(dim=-1, stable=True).argsort(dim=-1)  # twice: order to rank within each group
        is_kept = (ranks >= NM_ZEROS).flatten(-2).transpose(1, -1)  # [out, in, ...]
        squares = squares.masked_fill(is_kept, torch.inf)
        return squares.reshape(-1)
    ordered, order = squares.reshape(-1).sort(stable=True)
    not_smaller = ordered.flip(0).cumsum(0).flip(0)  # sum of the squares from each one upwards
    scores = torch.empty_like(ordered)
    # A layer of zeros only would divide by 0; its scores are 0 then.
    scores[order] = ordered / not_smaller.clamp(min=torch.finfo(not_smaller.dtype).tiny)
    return scores
