"""L2 norm of weights as importance (He et al. 2018, https://arxiv.org/abs/1808.06866).

A few large weights outweigh many small ones. What is different here: the norms of all layers that lose a channel count,
not only that of the layer which writes it.
"""

from collections.abc import Mapping

from torch import nn

from nas.compression.base import CompressionContext
from nas.compression.pruning.criterion import ChannelCriterion, ChannelScores
from nas.compression.pruning.weight_norms import input_channel_norms, output_channel_norms


class L2(ChannelCriterion):
    """L2 norm of the weights that write a channel, plus that of the weights that read it."""

    name = "l2"

    def score(self, net: nn.Module, layers: Mapping[str, nn.Module], context: CompressionContext) -> ChannelScores:
        """Scores of all layers with weights."""
        return output_channel_norms(layers, order=2)

    def score_inputs(
        self, net: nn.Module, layers: Mapping[str, nn.Module], context: CompressionContext
    ) -> ChannelScores:
        """Scores of convolutions and linear layers."""
        return input_channel_norms(layers, order=2)


IMPORTANCE = L2()
