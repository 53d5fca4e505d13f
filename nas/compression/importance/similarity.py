"""Redundancy of filters as importance: FPGM (He et al. 2019, https://arxiv.org/abs/1811.00250).

A filter that others can replace is redundant. The filter nearest to the geometric median of its layer has the smallest
sum of distances to all others. Unlike with norms, small filters that differ from the rest are kept.
"""

from collections.abc import Mapping

import torch
from torch import nn

from nas.compression.base import CompressionContext
from nas.compression.pruning.criterion import (
    ChannelCriterion,
    ChannelScores,
    as_float64,
    has_filters,
    output_channel_weights,
)


class Similarity(ChannelCriterion):
    """Sum of the Euclidean distances of a channel's weights to those of the layer's other channels."""

    name = "similarity"

    def score(self, net: nn.Module, layers: Mapping[str, nn.Module], context: CompressionContext) -> ChannelScores:
        """Scores of convolutions and linear layers; norms have none."""
        banks = {name: output_channel_weights(layer) for name, layer in layers.items() if has_filters(layer)}
        return {name: as_float64(torch.cdist(rows, rows).sum(1)) for name, rows in banks.items() if rows is not None}


IMPORTANCE = Similarity()
