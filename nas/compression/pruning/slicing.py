"""Slicing of any net to fewer channels: which of a layer's weights are kept when channels are removed.

A group holds what must have equally many channels: layers whose outputs meet in additions, with the norms, depthwise
convolutions and gates between them (the groups of DepGraph, Fang et al. 2023, https://arxiv.org/abs/2301.12900). What
is different here: where a sum meets a concatenation (two half maps beside a whole one), each part keeps the same share.
"""

import copy
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Set

import numpy as np
import torch
from torch import Tensor, nn

from nas.compression.pruning.channel_groups import ChannelGroups, ChannelIds, CoupledLayer, trace_channel_groups

KeepFunction = Callable[[str, int], int]
"""(name of the first layer, in order of execution, that writes a group; its channels) to the number of channels to
keep."""

SegmentKey = frozenset[tuple[str, int]]
"""Key of a segment: the layers that write a group of channels, each with how many of its channels are in the group."""


def slice_channels(net: nn.Module, *, input_channels: int, keep: KeepFunction, kept: Collection[str] = ()) -> nn.Module:
    """A copy of a net with fewer channels; modules keep their names and the weights of their first channels.

    Args:
        net: from images to logits, traceable by torch.fx; it is not changed.
        input_channels: channels of the image.
        keep: called once for each set of linked layers that may shrink, in order of execution; never for the image's
            channels or the logits. Where several channels can only be removed together (grouped convolutions, group
            norms), the nearest possible number is kept, at least one such set.
        kept: names of layers that must not change.

    Raises:
        BuildError: a layer is not supported; the message names it and the reason.
        ExportError: the net cannot be traced.
    """
    slim = copy.deepcopy(net)
    groups = trace_channel_groups(slim, input_channels=input_channels, kept=kept)
    remove_groups(groups, removed_groups(groups, keep))
    return slim


def remove_groups(channel_groups: ChannelGroups, removed: Set[int]) -> None:
    """Take these groups of channels, by id, out of the layers that were traced, in place."""
    for layer in channel_groups.layers:
        width = len(kept_indices(layer.output_ids, channel_groups, removed))
        _resize_layer(layer.module, sliced_tensors(layer, channel_groups, removed), width)


def sliced_tensors(layer: CoupledLayer, channel_groups: ChannelGroups, removed: Set[int]) -> dict[str, Tensor]:
    """A layer's tensors without the removed groups of channels, by name in the layer."""
    rows = kept_indices(layer.output_ids, channel_groups, removed)
    tensors: dict[str, Tensor] = {}
    for key, full in layer.module.state_dict().items():
        tensor = full.detach()
        if tensor.ndim > 0:
            tensor = tensor[rows]
        if tensor.ndim > 1 and layer.input_ids is not None:
            tensor = tensor[:, kept_indices(layer.input_ids, channel_groups, removed)]
        tensors[key] = tensor
    return tensors


def channel_segments(channel_groups: ChannelGroups) -> dict[SegmentKey, list[int]]:
    """Groups of channels by segment, in order of execution; groups with fixed channels are left out.

    Groups of one segment are interchangeable: the same layers write them.
    """
    counts: dict[int, Counter[str]] = {}
    for layer in _channel_producers(channel_groups):
        for root in channel_groups.group_ids(layer.output_ids):
            counts.setdefault(int(root), Counter())[layer.name] += 1
    fixed = {int(root) for root in channel_groups.group_ids(np.array(channel_groups.fixed_ids, dtype=np.int64))}
    segments: dict[SegmentKey, list[int]] = {}
    for root, count in counts.items():
        if root not in fixed:
            segments.setdefault(frozenset(count.items()), []).append(root)
    return segments


def kept_per_segment(channel_groups: ChannelGroups, widths: Mapping[str, int]) -> dict[SegmentKey, int]:
    """How many groups of each segment to keep so that layers get these widths; whether all layers can is not checked.

    Layers with one undecided segment decide first. Where several are undecided, each keeps the same share.

    Args:
        channel_groups: the groups of a net.
        widths: layer name to its new width.
    """
    segments = channel_segments(channel_groups)
    # Channels that each layer still has to lose, and its undecided segments.
    to_lose = {layer.name: len(layer.output_ids) - widths[layer.name] for layer in _channel_producers(channel_groups)}
    undecided = {name: {key: dict(key)[name] for key in segments if name in dict(key)} for name in to_lose}
    kept: dict[SegmentKey, int] = {}
    while len(kept) < len(segments):
        name = min((name for name, keys in undecided.items() if keys), key=lambda name: len(undecided[name]))
        share = to_lose[name] / sum(count * len(segments[key]) for key, count in undecided[name].items())
        for key in list(undecided[name]):
            kept[key] = max(0, int(len(segments[key]) * (1 - share) + 0.5))
            for other, count in key:
                to_lose[other] -= count * (len(segments[key]) - kept[key])
                del undecided[other][key]
    return kept


def _channel_producers(channel_groups: ChannelGroups) -> list[CoupledLayer]:
    """Layers that write channels of their own; norms and grouped layers pass on the channels that they read."""
    return [layer for layer in channel_groups.layers if layer.input_ids is not None]


def removed_groups(channel_groups: ChannelGroups, keep: KeepFunction) -> set[int]:
    """The groups of channels that `slice_channels` removes: the last ones of each segment."""
    widths = {layer.name: len(layer.output_ids) for layer in _channel_producers(channel_groups)}
    segments = channel_segments(channel_groups)
    removed: set[int] = set()
    for names in _linked_layers(segments, list(widths)):
        width = max(widths[name] for name in names)
        n_kept = min(width, keep(next(iter(names)), width))
        for segment, group_ids in segments.items():
            if {name for name, _ in segment} <= set(names):
                n_groups = max(1, int(len(group_ids) * n_kept / width + 0.5))
                removed.update(group_ids[n_groups:])
    return removed


def _linked_layers(segments: Mapping[SegmentKey, list[int]], order: list[str]) -> list[list[str]]:
    """Layers linked by common groups, each set and all sets in order of execution."""
    linked_to: dict[str, set[str]] = {}
    for segment in segments:
        linked: set[str] = set()
        for name, _ in segment:
            linked |= linked_to.get(name, {name})
        linked_to.update(dict.fromkeys(linked, linked))
    layers = [[name for name in order if name in linked_to[first]] for first in order if first in linked_to]
    return [names for i, names in enumerate(layers) if names not in layers[:i]]


def kept_indices(ids: ChannelIds, channel_groups: ChannelGroups, removed: Set[int]) -> Tensor:
    """Indices (int64) of the channels whose group is not removed."""
    kept = [i for i, root in enumerate(channel_groups.group_ids(ids)) if int(root) not in removed]
    return torch.tensor(kept, dtype=torch.int64)


def output_width(module: nn.Module) -> int:
    """Number of channels that a layer writes."""
    names = ("out_channels", "out_features", "num_features", "num_channels", "num_parameters")
    return next(int(getattr(module, name)) for name in names if hasattr(module, name))


def _resize_layer(module: nn.Module, tensors: Mapping[str, Tensor], width: int) -> None:
    """Give a layer these tensors and the channel counts that go with them."""
    before = output_width(module)
    for key, tensor in tensors.items():
        old = getattr(module, key)
        if isinstance(old, nn.Parameter):
            setattr(module, key, nn.Parameter(tensor.clone(), requires_grad=old.requires_grad))
        else:
            setattr(module, key, tensor.clone())
    if isinstance(module, nn.Conv2d):
        module.groups = 1 if module.groups == 1 else module.groups * width // before
        module.out_channels, module.in_channels = width, module.weight.shape[1] * module.groups
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = width, module.weight.shape[1]
    elif isinstance(module, nn.GroupNorm):
        module.num_channels, module.num_groups = width, module.num_groups * width // before
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.InstanceNorm2d):
        module.num_features = width
    elif isinstance(module, nn.PReLU):
        module.num_parameters = width
