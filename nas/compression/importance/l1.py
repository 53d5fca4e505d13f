"""Sums of absolute weights (Li et al. 2017, https://arxiv.org/abs/1608.08710), over all layers that lose a channel."""

from collections.abc import Mapping

from torch import nn

from nas.compression.base import Context
from nas.compression.pruning.criterion import Importance, Scores
from nas.compression.pruning.weight_norms import read, written


class L1(Importance):
    """L1 norm of the weights that write a channel, and of those that read it."""

    name = "l1"

    def score(self, net: nn.Module, layers: Mapping[str, nn.Module], context: Context) -> Scores:
        """Of all layers with weights."""
        return written(layers, order=1)

    def score_inputs(self, net: nn.Module, layers: Mapping[str, nn.Module], context: Context) -> Scores:
        """Of convolutions and linear layers."""
        return read(layers, order=1)


IMPORTANCE = L1()
