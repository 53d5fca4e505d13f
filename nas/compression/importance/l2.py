"""Euclidean norms of weights (He et al. 2018, https://arxiv.org/abs/1808.06866), over all layers that lose a channel.

Few large weights outweigh many small ones.
"""

from collections.abc import Mapping

from torch import nn

from nas.compression.base import CompressionContext
from nas.compression.pruning.criterion import ChannelCriterion, ChannelScores
from nas.compression.pruning.weight_norms import input_channel_norms, output_channel_norms


class L2(ChannelCriterion):
    """L2 norm of the weights that write a channel, and of those that read it."""

    name = "l2"

    def score(self, net: nn.Module, layers: Mapping[str, nn.Module], context: CompressionContext) -> ChannelScores:
        """Of all layers with weights."""
        return output_channel_norms(layers, order=2)

    def score_inputs(
        self, net: nn.Module, layers: Mapping[str, nn.Module], context: CompressionContext
    ) -> ChannelScores:
        """Of convolutions and linear layers."""
        return input_channel_norms(layers, order=2)


IMPORTANCE = L2()
