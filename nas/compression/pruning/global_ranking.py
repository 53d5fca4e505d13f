"""Global ranking: which channels of a whole net leave, so that a share of its multiply-accumulates (MACs) remains.

All layers compete, as in the global pruning of Molchanov et al. (2017, https://arxiv.org/abs/1611.06440) and DepGraph
(2023, https://arxiv.org/abs/2301.12900), and so each gets a width of its own. What is different here: channels leave in
blocks that keep every width on the target's grid, because a width beside it gains no latency.
"""

import copy
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import nn

from nas.compression.pruning.channel_groups import ChannelGroups, trace_channel_groups
from nas.compression.pruning.group_importance import ScoreFunction, group_importance, l1_scores
from nas.compression.pruning.slicing import channel_segments, remove_groups
from nas.errors import BuildError
from search_spaces._work import trace_layers


def prune_globally(
    net: nn.Module,
    *,
    input_shape: tuple[int, int, int],
    macs_share: float,
    channel_multiple: int,
    score: ScoreFunction = l1_scores,
    kept: Collection[str] = (),
) -> nn.Module:
    """A copy of a net without the channels of the lowest relative importance over all layers.

    Args:
        net: trained; it is not changed.
        input_shape: (C, H, W) of the images.
        macs_share: share of the net's multiply-accumulates to keep at most, in (0, 1].
        channel_multiple: grid of the widths.
        score: scores the net's channels; channels that it leaves out are ranked by their L1 norm.
        kept: names of layers that lose no channel.

    Raises:
        BuildError: the net is not supported, or the share cannot be reached.
    """
    slim = copy.deepcopy(net)
    groups = trace_channel_groups(slim, input_channels=input_shape[0], kept=kept)
    layers = {layer.name: layer.module for layer in groups.layers}
    scores = group_importance(groups, *l1_scores(layers), per_layer=True)
    scores |= group_importance(groups, *score(layers), per_layer=True)
    removed = globally_removed_groups(
        slim, groups, scores, input_shape=input_shape, macs_share=macs_share, channel_multiple=channel_multiple
    )
    remove_groups(groups, removed)
    return slim


@dataclass(frozen=True, kw_only=True)
class _LayerCost:
    """MACs of one layer at full width, and the groups of the channels that it writes and reads."""

    macs: float
    written: npt.NDArray[np.int64]
    read: npt.NDArray[np.int64] | None

    def macs_of(self, kept: npt.NDArray[np.bool_]) -> float:
        """MACs if only these groups are kept, by group id."""
        share = float(kept[self.written].mean())
        return self.macs * share * (1.0 if self.read is None else float(kept[self.read].mean()))


def globally_removed_groups(
    net: nn.Module,
    channel_groups: ChannelGroups,
    scores: Mapping[int, float],
    *,
    input_shape: tuple[int, int, int],
    macs_share: float,
    channel_multiple: int,
) -> set[int]:
    """The groups of channels to remove: blocks of the lowest mean score, until at most the share of MACs is left.

    A block holds the lowest channels of one segment, as many as one step of the grid. Each segment keeps at least one
    step. Ties take the earlier segment in order of execution.

    Args:
        net: from images to logits; it is not changed.
        channel_groups: its groups of channels.
        scores: importance of each group, comparable between layers; groups without one count as 0.
        input_shape: (C, H, W) of the images.
        macs_share: share of the net's MACs to keep, in (0, 1].
        channel_multiple: grid of the channel counts.

    Raises:
        BuildError: the share is outside (0, 1], or more MACs are left with one step of the grid in every segment.
    """
    if not 0 < macs_share <= 1:
        raise BuildError(f"the share of MACs to keep must be in (0, 1], but got {macs_share:g}")
    costs = _layer_costs(net, channel_groups, input_shape)
    kept = np.ones(len(channel_groups.parent), dtype=bool)
    whole = sum(cost.macs for cost in costs)
    counts = _counts_by_group(channel_groups)
    blocks = {
        key: _blocks(ids, scores, _block_size(set().union(*(counts[i] for i in ids)), channel_multiple))
        for key, ids in channel_segments(channel_groups).items()
    }
    while (macs := sum(cost.macs_of(kept) for cost in costs)) > macs_share * whole:
        open_segments = [key for key, left in blocks.items() if left]
        if not open_segments:
            raise BuildError(
                f"at most {macs_share:.1%} of the MACs must be left, but with {channel_multiple} channels in every "
                f"layer that may shrink it is {macs / whole:.1%}; remove less"
            )
        lowest = min(open_segments, key=lambda key: np.mean([scores.get(i, 0.0) for i in blocks[key][0]]))
        kept[blocks[lowest].pop(0)] = False
    roots = channel_groups.group_ids(np.arange(len(kept)))
    return {int(root) for root in roots[~kept[roots]]}


def _counts_by_group(channel_groups: ChannelGroups) -> dict[int, set[int]]:
    """How many channels each group has in the layers that it passes through."""
    counts: dict[int, set[int]] = {}
    for layer in channel_groups.layers:
        for root, count in Counter(channel_groups.group_ids(layer.output_ids).tolist()).items():
            counts.setdefault(root, set()).add(count)
    return counts


def _block_size(counts: Iterable[int], channel_multiple: int) -> int:
    """Groups that are one step of the grid, or several, in every layer where they have these numbers of channels."""
    return math.lcm(*(channel_multiple // math.gcd(channel_multiple, count) for count in counts))


def _blocks(group_ids: list[int], scores: Mapping[int, float], size: int) -> list[list[int]]:
    """The groups that may leave, in blocks from the lowest scores; the first block leads to the grid."""
    ranked = sorted(group_ids, key=lambda root: scores.get(root, 0.0))
    first = len(ranked) % size or size
    starts = [0, *range(first, len(ranked) - size, size)] if len(ranked) > size else []
    return [ranked[start : (first if start == 0 else start + size)] for start in starts]


def _layer_costs(net: nn.Module, channel_groups: ChannelGroups, input_shape: tuple[int, int, int]) -> list[_LayerCost]:
    macs: dict[str, float] = {}
    for layer in trace_layers(copy.deepcopy(net), input_shape):  # each call of a layer counts
        pairs = layer.in_channels * layer.out_channels / layer.groups
        macs[layer.name] = macs.get(layer.name, 0.0) + layer.kernel_elements * pairs * layer.pixels_out
    return [
        _LayerCost(
            macs=macs.get(layer.name, 0.0),
            written=channel_groups.group_ids(layer.output_ids),
            read=None if layer.input_ids is None else channel_groups.group_ids(layer.input_ids),
        )
        for layer in channel_groups.layers
    ]
