"""Norms of the weights that write and read a channel: the magnitude of what would be removed with it.

A channel costs the weights that write it and those that read it, so both count (the group norm of DepGraph, Fang et al.
2023, https://arxiv.org/abs/2301.12900).
"""

from collections.abc import Mapping

from torch import nn

from nas.compression.pruning.criterion import ChannelScores, as_float64, input_channel_weights, output_channel_weights


def output_channel_norms(layers: Mapping[str, nn.Module], *, order: int) -> ChannelScores:
    """The norm of the weights that write each channel, by layer; the scales of norms count as rows of one number.

    Args:
        layers: by name; those without weights are left out.
        order: 1 sums absolute values, 2 is Euclidean.
    """
    rows = {name: output_channel_weights(layer) for name, layer in layers.items()}
    return {name: as_float64(weights.norm(p=order, dim=1)) for name, weights in rows.items() if weights is not None}


def input_channel_norms(layers: Mapping[str, nn.Module], *, order: int) -> ChannelScores:
    """The norm of the weights that read each channel, for ungrouped convolutions and linear layers.

    Args:
        layers: by name; others are left out.
        order: as in `output_channel_norms`.
    """
    columns = {name: input_channel_weights(layer) for name, layer in layers.items()}
    return {name: as_float64(weights.norm(p=order, dim=1)) for name, weights in columns.items() if weights is not None}
