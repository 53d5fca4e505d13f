"""Euclidean norms of weights (He et al. 2018, https://arxiv.org/abs/1808.06866), over all layers that lose a channel.

A channel also costs the weights that read it, so these count as well (the group norm of DepGraph, Fang et al. 2023,
https://arxiv.org/abs/2301.12900). Against `l1`, few large weights outweigh many small ones.
"""

from collections.abc import Mapping

from torch import nn

from nas.compressors._base import Context
from nas.importance._base import Importance, Scores, incoming, numbers, outgoing


class L2(Importance):
    """L2 norm of the weights that write a channel, and of those that read it."""

    name = "l2"

    def score(self, net: nn.Module, layers: Mapping[str, nn.Module], context: Context) -> Scores:
        """The norm of each row; norms' scales count as rows of one number."""
        found = {name: outgoing(layer) for name, layer in layers.items()}
        return {name: numbers(rows.norm(p=2, dim=1)) for name, rows in found.items() if rows is not None}

    def score_inputs(self, net: nn.Module, layers: Mapping[str, nn.Module], context: Context) -> Scores:
        """The norm of each column."""
        found = {name: incoming(layer) for name, layer in layers.items()}
        return {name: numbers(columns.norm(p=2, dim=1)) for name, columns in found.items() if columns is not None}


IMPORTANCE = L2()
