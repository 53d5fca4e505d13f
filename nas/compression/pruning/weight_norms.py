"""Norms of the weights that write and read a channel: the size of what would leave with it.

A channel costs not only the weights that write it but also those that read it, so both count (the group norm of
DepGraph, Fang et al. 2023, https://arxiv.org/abs/2301.12900).
"""

from collections.abc import Mapping

from torch import nn

from nas.compression.pruning.criterion import ChannelScores, as_float64, input_channel_weights, output_channel_weights


def output_channel_norms(layers: Mapping[str, nn.Module], *, order: int) -> ChannelScores:
    """The norm of each row of a layer's weights; norms' scales count as rows of one number.

    Args:
        layers: by name; those without weights are left out.
        order: 1 sums absolute values, 2 is Euclidean.
    """
    rows = {name: output_channel_weights(layer) for name, layer in layers.items()}
    return {name: as_float64(found.norm(p=order, dim=1)) for name, found in rows.items() if found is not None}


def input_channel_norms(layers: Mapping[str, nn.Module], *, order: int) -> ChannelScores:
    """The norm of each column, of convolutions in one group and linear layers."""
    columns = {name: input_channel_weights(layer) for name, layer in layers.items()}
    return {name: as_float64(found.norm(p=order, dim=1)) for name, found in columns.items() if found is not None}
