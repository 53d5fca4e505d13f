"""Importance of groups of channels: the scores of a criterion by layer, added up over coupled layers.

Each layer's scores are divided by their mean, so that no layer outweighs the others.
"""

from collections import Counter
from collections.abc import Callable, Mapping

from torch import nn

from nas import registry
from nas.compression.base import CompressionContext
from nas.compression.pruning.channel_groups import ChannelGroups
from nas.compression.pruning.criterion import ChannelScores
from nas.compression.pruning.weight_norms import input_channel_norms, output_channel_norms

ScoreFunction = Callable[[Mapping[str, nn.Module]], tuple[ChannelScores, ChannelScores]]
"""Layers by name to the scores of the channels that each layer writes and of those that it reads."""


def bind_criterion(name: str, net: nn.Module, context: CompressionContext) -> ScoreFunction:
    """A criterion of the family `importance`, bound to a net and its context.

    Raises:
        UnknownMemberError: the family has no criterion of this name.
    """
    criterion = registry.load("importance", name)

    def score(layers: Mapping[str, nn.Module]) -> tuple[ChannelScores, ChannelScores]:
        return criterion.score(net, layers, context), criterion.score_inputs(net, layers, context)

    return score


def l1_scores(layers: Mapping[str, nn.Module]) -> tuple[ChannelScores, ChannelScores]:
    """The scores of the criterion `l1`, which needs nothing but the layers."""
    return output_channel_norms(layers, order=1), input_channel_norms(layers, order=1)


def group_importance(
    channel_groups: ChannelGroups,
    output_scores: ChannelScores,
    input_scores: ChannelScores,
    *,
    per_layer: bool = False,
) -> dict[int, float]:
    """The importance of each group of channels that has a score; higher means keep.

    Args:
        channel_groups: the groups of a net.
        output_scores: layer name to the scores of the channels that it writes.
        input_scores: layer name to the scores of the channels that it reads.
        per_layer: the mean over the layers instead of their sum, which compares groups of few layers with those of
            many.
    """
    total: dict[int, float] = {}
    counts: Counter[int] = Counter()
    for layer in channel_groups.layers:
        for ids, scores in (
            (layer.output_ids, output_scores.get(layer.name)),
            (layer.input_ids, input_scores.get(layer.name)),
        ):
            if ids is None or scores is None:
                continue
            # Relative scores: a layer's scale is arbitrary where a norm follows it. All-zero layers add nothing.
            relative = scores / (float(scores.mean()) or 1.0)
            for root, value in zip(channel_groups.group_ids(ids), relative, strict=True):
                total[int(root)] = total.get(int(root), 0.0) + float(value)
                counts[int(root)] += 1
    return {root: value / counts[root] for root, value in total.items()} if per_layer else total
