"""Euclidean norms of weights (He et al. 2018, https://arxiv.org/abs/1808.06866), over all layers that lose a channel.

Few large weights outweigh many small ones.
"""

from collections.abc import Mapping

from torch import nn

from nas.compression.base import Context
from nas.compression.pruning.criterion import Importance, Scores
from nas.compression.pruning.weight_norms import read, written


class L2(Importance):
    """L2 norm of the weights that write a channel, and of those that read it."""

    name = "l2"

    def score(self, net: nn.Module, layers: Mapping[str, nn.Module], context: Context) -> Scores:
        """Of all layers with weights."""
        return written(layers, order=2)

    def score_inputs(self, net: nn.Module, layers: Mapping[str, nn.Module], context: Context) -> Scores:
        """Of convolutions and linear layers."""
        return read(layers, order=2)


IMPORTANCE = L2()
