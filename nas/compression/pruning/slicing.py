"""Any net with fewer channels, and which of a layer's weights stay when channels leave.

A group is what must keep equally many channels: layers whose outputs meet in additions, with the norms, depthwise
convolutions and gates on the way (the groups of DepGraph, Fang et al. 2023, https://arxiv.org/abs/2301.12900).
Different here: where a sum meets a concatenation (two half maps beside one whole), each part keeps the same share.
"""

import copy
from collections import Counter
from collections.abc import Callable, Mapping, Set

import numpy as np
import torch
from torch import Tensor, nn

from nas.compression.pruning.channel_groups import ChannelGroups, ChannelIds, CoupledLayer, trace_channel_groups

KeepFunction = Callable[[str, int], int]
"""(name of the first layer in order of execution that writes a group, its channels) to how many stay."""

SegmentKey = frozenset[tuple[str, int]]
"""The layers that bring forth a class of channels, each with how many of its channels are in the class."""


def slice_channels(net: nn.Module, *, input_channels: int, keep: KeepFunction) -> nn.Module:
    """A copy of a net with fewer channels; modules keep their names, and their first channels' weights.

    Args:
        net: from images to logits, traceable by torch.fx; it is not changed.
        input_channels: of the image.
        keep: asked once for each group that may shrink, in order of execution; never for the image's channels or the
            logits. Where channels leave several at once (convolutions in groups, group norms), the nearest possible
            number stays, and never none.

    Raises:
        BuildError: a layer cannot be followed; it is named, with the reason.
        ExportError: the net cannot be traced.
    """
    slim = copy.deepcopy(net)
    coupling = trace_channel_groups(slim, input_channels=input_channels)
    gone = _removed_groups(coupling, keep)
    for layer in coupling.layers:
        _resize_layer(
            layer.module, sliced_tensors(layer, coupling, gone), len(_kept_indices(layer.output_ids, coupling, gone))
        )
    return slim


def sliced_tensors(layer: CoupledLayer, channel_groups: ChannelGroups, removed: Set[int]) -> dict[str, Tensor]:
    """A layer's tensors without the classes of channels that leave, by name in the layer."""
    rows = _kept_indices(layer.output_ids, channel_groups, removed)
    parts: dict[str, Tensor] = {}
    for key, tensor in layer.module.state_dict().items():
        part = tensor.detach()
        if part.ndim > 0:
            part = part[rows]
        if part.ndim > 1 and layer.input_ids is not None:
            part = part[:, _kept_indices(layer.input_ids, channel_groups, removed)]
        parts[key] = part
    return parts


def channel_segments(channel_groups: ChannelGroups) -> dict[SegmentKey, list[int]]:
    """Classes of channels that are alike to all layers, in order of execution; fixed ones are left out."""
    counts: dict[int, Counter[str]] = {}
    for layer in _channel_producers(channel_groups):
        for root in channel_groups.group_ids(layer.output_ids):
            counts.setdefault(int(root), Counter())[layer.name] += 1
    fixed = {int(root) for root in channel_groups.group_ids(np.array(channel_groups.fixed_ids, dtype=np.int64))}
    found: dict[SegmentKey, list[int]] = {}
    for root, count in counts.items():
        if root not in fixed:
            found.setdefault(frozenset(count.items()), []).append(root)
    return found


def kept_per_segment(channel_groups: ChannelGroups, widths: Mapping[str, int]) -> dict[SegmentKey, int]:
    """How many classes of each segment stay, so that layers get these widths; whether they all can is not checked.

    Layers with one open segment decide first; where several are open, each keeps the same share.
    """
    parts = channel_segments(channel_groups)
    losing = {layer.name: len(layer.output_ids) - widths[layer.name] for layer in _channel_producers(channel_groups)}
    open_ = {name: {part: dict(part)[name] for part in parts if name in dict(part)} for name in losing}
    found: dict[SegmentKey, int] = {}
    while len(found) < len(parts):
        name = min((name for name, rest in open_.items() if rest), key=lambda name: len(open_[name]))
        lost = losing[name] / sum(count * len(parts[part]) for part, count in open_[name].items())
        for part in list(open_[name]):
            found[part] = max(0, int(len(parts[part]) * (1 - lost) + 0.5))
            for other, count in part:
                losing[other] -= count * (len(parts[part]) - found[part])
                del open_[other][part]
    return found


def _channel_producers(channel_groups: ChannelGroups) -> list[CoupledLayer]:
    """Layers whose channels are their own: norms and layers in groups hand on what they read."""
    return [layer for layer in channel_groups.layers if layer.input_ids is not None]


def _removed_groups(channel_groups: ChannelGroups, keep: KeepFunction) -> set[int]:
    widths = {layer.name: len(layer.output_ids) for layer in _channel_producers(channel_groups)}
    parts = channel_segments(channel_groups)
    gone: set[int] = set()
    for names in _linked_layers(parts, list(widths)):
        width = max(widths[name] for name in names)
        stay = min(width, keep(next(iter(names)), width))
        for signature, classes in parts.items():
            if {name for name, _ in signature} <= set(names):
                share = max(1, int(len(classes) * stay / width + 0.5))
                gone.update(classes[share:])
    return gone


def _linked_layers(parts: Mapping[SegmentKey, list[int]], order: list[str]) -> list[list[str]]:
    """Layers linked by common classes, each group and all groups in order of execution."""
    group: dict[str, set[str]] = {}
    for signature in parts:
        linked: set[str] = set()
        for name, _ in signature:
            linked |= group.get(name, {name})
        group.update(dict.fromkeys(linked, linked))
    found = [[name for name in order if name in group[first]] for first in order if first in group]
    return [names for i, names in enumerate(found) if names not in found[:i]]


def _kept_indices(ids: ChannelIds, channel_groups: ChannelGroups, removed: Set[int]) -> Tensor:
    return torch.tensor([i for i, root in enumerate(channel_groups.group_ids(ids)) if int(root) not in removed])


def output_width(module: nn.Module) -> int:
    """How many channels a layer writes."""
    names = ("out_channels", "out_features", "num_features", "num_channels", "num_parameters")
    return next(int(getattr(module, name)) for name in names if hasattr(module, name))


def _resize_layer(module: nn.Module, tensors: Mapping[str, Tensor], width: int) -> None:
    """Give a layer these tensors and the numbers of channels that go with them."""
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
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        module.num_features = width
    elif isinstance(module, nn.PReLU):
        module.num_parameters = width
