"""Filters that others can stand in for are redundant (FPGM, He et al. 2019, https://arxiv.org/abs/1811.00250).

The filter nearest to the geometric median of its layer is the one with the least sum of distances to all others. So,
unlike with norms, small filters that are unlike the rest stay.
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
        """Of convolutions and linear layers; norms say nothing."""
        banks = {name: output_channel_weights(layer) for name, layer in layers.items() if has_filters(layer)}
        return {name: as_float64(torch.cdist(rows, rows).sum(1)) for name, rows in banks.items() if rows is not None}


IMPORTANCE = Similarity()
