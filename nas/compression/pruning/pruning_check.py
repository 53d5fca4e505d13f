"""Proof that pruning is exact: a net with half of its channels equals the whole one with the leaving channels silenced.

A channel is silenced where it is read: the weights of its readers are 0. Whatever else mixes channels (a norm or a
softmax over channels, a wrong order after a shuffle) makes the two nets differ.
"""

import copy
from collections.abc import Collection

import torch
from torch import nn

from nas.compression.pruning.channel_groups import trace_channel_groups
from nas.compression.pruning.slicing import kept_indices, removed_groups, slice_channels
from nas.errors import BuildError
from nas.onnx_export.rewrite_check import RELATIVE_TOLERANCE, probe_images, randomised, relative_difference


def check_pruning_is_exact(net: nn.Module, *, input_shape: tuple[int, int, int], kept: Collection[str] = ()) -> None:
    """Reject a net whose pruned form does not compute what the silenced one computes, on random weights.

    Args:
        net: from images to logits; it is not changed.
        input_shape: (C, H, W) of the images.
        kept: names of layers that are not pruned.

    Raises:
        BuildError: the logits differ, or the pruned net cannot run; the message says by how much or why.
        ExportError: the net cannot be traced.
    """
    whole = randomised(net)
    slim = slice_channels(whole, input_channels=input_shape[0], keep=_half, kept=kept)
    images = probe_images(input_shape)
    try:
        with torch.inference_mode():
            expected, got = silenced(whole, input_channels=input_shape[0], kept=kept)(images), slim(images)
    except RuntimeError as error:
        raise BuildError(
            f"a net of half the channels must run, but it does not: {str(error).splitlines()[0]}"
        ) from error
    difference = relative_difference(expected, got)
    if not difference <= RELATIVE_TOLERANCE:
        raise BuildError(
            "a pruned net must compute what the whole one does with the leaving channels silenced, but its logits "
            f"differ by {difference:.2g} of the largest: an operation mixes channels in a way that is not followed"
        )


def silenced(net: nn.Module, *, input_channels: int, kept: Collection[str] = ()) -> nn.Module:
    """A copy of the net in which no layer reads the channels that `check_pruning_is_exact` removes."""
    copied = copy.deepcopy(net)
    groups = trace_channel_groups(copied, input_channels=input_channels, kept=kept)
    removed = removed_groups(groups, _half)
    with torch.no_grad():
        for layer in groups.layers:
            if layer.input_ids is not None:
                weight = layer.module.get_parameter("weight")
                reads = torch.zeros(weight.shape[1], dtype=torch.bool)
                reads[kept_indices(layer.input_ids, groups, removed)] = True
                weight[:, ~reads] = 0
    return copied


def _half(layer: str, width: int) -> int:
    return max(1, width // 2)
