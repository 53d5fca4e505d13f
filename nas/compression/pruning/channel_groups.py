"""Groups of channels that can only be removed together, derived from a net's graph of leaf modules.

After the dependency graph of DepGraph (Fang et al. 2023, https://arxiv.org/abs/2301.12900). What is different here: the
graph is torch.fx's, so nothing is run and it takes milliseconds. Grouped convolutions with several channels per group
and gates that mix neighbouring channels (ECA) are supported too, where torch-pruning 1.6 leaves layers of wrong shape.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import fx, nn

from nas.errors import BuildError
from nas.onnx_export.folding import has_parameters, module_of, trace
from nas.onnx_export.opaque_region import Region
from nas.onnx_export.tensor_ops import (
    AppendAxes,
    Binary,
    ChannelChunk,
    ConcatAxis,
    DotProductAttention,
    Permute,
    Reduce,
    Reshape,
    Roll,
    Slice,
)
from search_spaces._leaf import Add, Concat, Scale, SwapAxes

ChannelIds = npt.NDArray[np.int64]
"""One number per channel of a tensor. Numbers in one group are the same channel to the pruner."""


@dataclass(frozen=True)
class CoupledLayer:
    """A layer with weights: the channels that it writes and reads. Grouped layers and norms read what they write."""

    name: str
    module: nn.Module
    output_ids: ChannelIds
    input_ids: ChannelIds | None = None


@dataclass
class ChannelGroups:
    """Groups of coupled channels (union-find) and the layers that they pass through, in order of execution.

    Attributes:
        layers: each layer with weights, once, also where it is called several times.
        parent: the union-find forest: channel id to the id of its parent.
        fixed_ids: channels that must be kept: those of the image, the logits, and axes that are no channel axes any
            more.
    """

    layers: list[CoupledLayer] = field(default_factory=list)
    parent: list[int] = field(default_factory=list)
    fixed_ids: list[int] = field(default_factory=list)

    def new_ids(self, count: int) -> ChannelIds:
        """Ids of new channels, each a group of its own."""
        start = len(self.parent)
        self.parent.extend(range(start, start + count))
        return np.arange(start, start + count)

    def group_ids(self, ids: ChannelIds) -> ChannelIds:
        """The group of each channel: the id of its root."""
        return np.array([self._find(int(i)) for i in ids], dtype=np.int64)

    def mark_fixed(self, ids: ChannelIds) -> None:
        """Exclude these channels from pruning."""
        self.fixed_ids.extend(int(i) for i in ids)

    def union(self, a: ChannelIds, b: ChannelIds) -> None:
        """Couple channels pairwise.

        Raises:
            BuildError: the two differ in length.
        """
        if len(a) != len(b):
            raise BuildError(f"coupled tensors must have equally many channels, but got {len(a)} and {len(b)}")
        for i, j in zip(a, b, strict=True):
            self.parent[self._find(int(i))] = self._find(int(j))

    def _find(self, i: int) -> int:
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]  # path halving keeps the trees flat
            i = self.parent[i]
        return i


@dataclass(frozen=True)
class _TensorChannels:
    """The channels of a tensor.

    Attributes:
        ids: channels on axis 1.
        axis2_ids: channels on axis 2, where a `SwapAxes` has moved some there.
        is_1x1: whether height and width are 1.
        is_flattened: whether each channel stands for as many neighbouring values as its map had pixels; the next layer
            with weights tells how many.
    """

    ids: ChannelIds
    axis2_ids: ChannelIds | None = None
    is_1x1: bool = False
    is_flattened: bool = False


def trace_channel_groups(net: nn.Module, *, input_channels: int, kept: Collection[str] = ()) -> ChannelGroups:
    """Follow the channels of an image through a net.

    Args:
        net: from images to logits; it is not changed.
        input_channels: channels of the image.
        kept: names of layers whose channels must be kept, those that they read and those that they write.

    Raises:
        BuildError: a layer is not supported; the message names it and the reason.
        ExportError: the net cannot be traced.
    """
    graph, groups = trace(net), ChannelGroups()
    values: dict[fx.Node, _TensorChannels] = {}
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            values[node] = _TensorChannels(groups.new_ids(input_channels))
            groups.mark_fixed(values[node].ids)
        elif node.op == "get_attr":
            raise _unsupported(
                str(node.target), "a tensor outside a layer", "which of its numbers are channels is unknown"
            )
        elif node.op == "call_module":
            inputs = [values[source] for source in _input_nodes(node)]
            values[node] = _propagate(module_of(graph, node), str(node.target), inputs, groups)
        elif node.op == "output":
            for source in _input_nodes(node):
                groups.mark_fixed(values[source].ids)
    for layer in groups.layers:
        if layer.name in kept:
            groups.mark_fixed(layer.output_ids)
            if layer.input_ids is not None:
                groups.mark_fixed(layer.input_ids)
    return _merge_repeated_calls(groups)


def _unsupported(name: str, what: str, reason: str) -> BuildError:
    return BuildError(f"a net to be pruned must consist of supported layers, but {name!r} is {what}: {reason}")


def _input_nodes(node: fx.Node) -> list[fx.Node]:
    nodes: list[fx.Node] = []
    fx.map_arg(node.args, nodes.append)
    return nodes


def _merge_repeated_calls(channel_groups: ChannelGroups) -> ChannelGroups:
    """Merge layers that are called several times: they read and write the same channels each time."""
    first: dict[str, CoupledLayer] = {}
    owners: dict[int, str] = {}
    for layer in channel_groups.layers:
        for tensor in layer.module.parameters():
            if (owner := owners.setdefault(id(tensor), layer.name)) != layer.name:
                raise _unsupported(layer.name, f"a {type(layer.module).__name__}", f"it shares weights with {owner!r}")
        known = first.setdefault(layer.name, layer)
        if known is not layer:
            channel_groups.union(known.output_ids, layer.output_ids)
            if known.input_ids is not None and layer.input_ids is not None:
                channel_groups.union(known.input_ids, layer.input_ids)
    channel_groups.layers = list(first.values())
    return channel_groups


def _propagate(
    module: nn.Module, name: str, inputs: list[_TensorChannels], channel_groups: ChannelGroups
) -> _TensorChannels:
    kind = f"a {type(module).__name__}"
    if isinstance(module, Region) or _mixes_channels(module):
        return _fixed(module, inputs, channel_groups)
    if extra := {key for key, _ in module.state_dict().items()} - _KNOWN_TENSORS if has_parameters(module) else set():
        raise _unsupported(name, f"{kind} with {min(extra)!r}", "its weights are computed from others")
    for known, handler in _HANDLERS.items():
        if isinstance(module, known):
            return handler(module, name, inputs, channel_groups)
    if isinstance(module, tuple(_UNSUPPORTED_LAYERS)):
        raise _unsupported(
            name, kind, next(reason for known, reason in _UNSUPPORTED_LAYERS.items() if isinstance(module, known))
        )
    if has_parameters(module):
        raise _unsupported(name, kind, "which of its weights belong to which channel is not known")
    if len(inputs) != 1:
        raise _unsupported(name, kind, f"how its {len(inputs)} inputs become channels is not known")
    return inputs[0]


def _mixes_channels(module: nn.Module) -> bool:
    """Whether an operation moves or sums channels in a way that is not followed."""
    if isinstance(module, nn.Sequential):
        return any(map(_mixes_channels, module))
    if isinstance(module, Reduce):
        return 1 in module.axes
    if isinstance(module, Binary):
        return module.op_type == "MatMul"
    if isinstance(module, nn.Softmax | nn.LogSoftmax):
        return module.dim is None or module.dim < 2  # traced nets count axes from the front
    return isinstance(
        module, Reshape | Permute | Slice | ConcatAxis | Roll | DotProductAttention | nn.LocalResponseNorm
    )


def _fixed(module: nn.Module, inputs: list[_TensorChannels], channel_groups: ChannelGroups) -> _TensorChannels:
    """Keep all channels that the module reads and writes."""
    for value in inputs:
        channel_groups.mark_fixed(value.ids)
        if value.axis2_ids is not None:
            channel_groups.mark_fixed(value.axis2_ids)
    width = getattr(module, "output_width", None)
    ids = inputs[0].ids if width is None else channel_groups.new_ids(width)
    channel_groups.mark_fixed(ids)
    return _TensorChannels(ids)


def _conv(
    module: nn.Conv2d, name: str, inputs: list[_TensorChannels], channel_groups: ChannelGroups
) -> _TensorChannels:
    value = inputs[0]
    _check_width(name, value.ids, module.in_channels)
    out = channel_groups.new_ids(module.out_channels)
    if module.groups == 1:
        channel_groups.layers.append(CoupledLayer(name, module, output_ids=out, input_ids=value.ids))
        return _TensorChannels(out, value.axis2_ids)
    per_group = value.ids.reshape(module.groups, -1), out.reshape(module.groups, -1)  # [groups, channels in one]
    _union_rows(np.concatenate(per_group, axis=1), channel_groups)
    channel_groups.layers.append(CoupledLayer(name, module, output_ids=out))
    return _TensorChannels(out, value.axis2_ids)


def _union_rows(rows: npt.NDArray[np.int64], channel_groups: ChannelGroups) -> None:
    for members in rows:
        channel_groups.union(members[1:], np.full(len(members) - 1, members[0]))


def _linear(
    module: nn.Linear, name: str, inputs: list[_TensorChannels], channel_groups: ChannelGroups
) -> _TensorChannels:
    value = _expand_flattened(name, inputs[0], module.in_features)
    out = channel_groups.new_ids(module.out_features)
    channel_groups.layers.append(CoupledLayer(name, module, output_ids=out, input_ids=value.ids))
    return _TensorChannels(out)


def _norm(
    module: nn.BatchNorm1d | nn.BatchNorm2d, name: str, inputs: list[_TensorChannels], channel_groups: ChannelGroups
) -> _TensorChannels:
    value = _expand_flattened(name, inputs[0], module.num_features)
    channel_groups.layers.append(CoupledLayer(name, module, output_ids=value.ids))
    return value


def _group_norm(
    module: nn.GroupNorm, name: str, inputs: list[_TensorChannels], channel_groups: ChannelGroups
) -> _TensorChannels:
    """Couple the channels of each group: they share its statistics, so they are removed together."""
    _check_width(name, inputs[0].ids, module.num_channels)
    _union_rows(inputs[0].ids.reshape(module.num_groups, -1), channel_groups)
    channel_groups.layers.append(CoupledLayer(name, module, output_ids=inputs[0].ids))
    return inputs[0]


def _prelu(
    module: nn.PReLU, name: str, inputs: list[_TensorChannels], channel_groups: ChannelGroups
) -> _TensorChannels:
    if module.num_parameters > 1:
        value = _expand_flattened(name, inputs[0], module.num_parameters)
        channel_groups.layers.append(CoupledLayer(name, module, output_ids=value.ids))
        return value
    shared = channel_groups.new_ids(1)  # one slope for all channels: it stays whatever is pruned
    channel_groups.mark_fixed(shared)
    channel_groups.layers.append(CoupledLayer(name, module, output_ids=shared))
    return inputs[0]


def _elementwise(
    module: nn.Module, name: str, inputs: list[_TensorChannels], channel_groups: ChannelGroups
) -> _TensorChannels:
    a, b = inputs
    if min(len(a.ids), len(b.ids)) == 1 < max(len(a.ids), len(b.ids)):  # broadcast: one channel scales all others
        channel_groups.mark_fixed(min(a.ids, b.ids, key=len))
        return max(a, b, key=lambda value: len(value.ids))
    if len(a.ids) != len(b.ids):
        raise BuildError(f"inputs of {name!r} must have equally many channels, but got {len(a.ids)} and {len(b.ids)}")
    channel_groups.union(a.ids, b.ids)
    return replace(a, is_1x1=a.is_1x1 and b.is_1x1)


def _concat(
    module: nn.Module, name: str, inputs: list[_TensorChannels], channel_groups: ChannelGroups
) -> _TensorChannels:
    if any(value.is_flattened for value in inputs):
        if hasattr(module, "output_width"):
            return _fixed(module, inputs, channel_groups)
        raise _unsupported(
            name, "a Concat of flattened maps", "how many numbers each channel has is not known; pool first"
        )
    is_1x1 = all(value.is_1x1 for value in inputs)
    return _TensorChannels(np.concatenate([value.ids for value in inputs]), is_1x1=is_1x1)


def _channel_chunk(
    module: ChannelChunk, name: str, inputs: list[_TensorChannels], channel_groups: ChannelGroups
) -> _TensorChannels:
    """One of equal parts: the channels at one place of each part leave together, so that the parts stay equal."""
    rows = inputs[0].ids.reshape(module.parts, -1)
    _union_rows(rows.T, channel_groups)
    return replace(inputs[0], ids=rows[module.index])


def _channel_shuffle(
    module: nn.ChannelShuffle, name: str, inputs: list[_TensorChannels], channel_groups: ChannelGroups
) -> _TensorChannels:
    """Group by group becomes place by place; one place leaves in all groups together."""
    rows = inputs[0].ids.reshape(module.groups, -1)
    _union_rows(rows.T, channel_groups)
    return replace(inputs[0], ids=rows.T.reshape(-1))


def _append_axes(
    module: AppendAxes, name: str, inputs: list[_TensorChannels], channel_groups: ChannelGroups
) -> _TensorChannels:
    if inputs[0].is_flattened:
        return _fixed(module, inputs, channel_groups)
    return replace(inputs[0], is_1x1=True)


def _reduce(module: Reduce, name: str, inputs: list[_TensorChannels], channel_groups: ChannelGroups) -> _TensorChannels:
    return replace(inputs[0], is_1x1=module.axes == (2, 3))


def _swap_axes(
    module: nn.Module, name: str, inputs: list[_TensorChannels], channel_groups: ChannelGroups
) -> _TensorChannels:
    axis2_ids = inputs[0].axis2_ids
    ids = channel_groups.new_ids(1) if axis2_ids is None else axis2_ids
    channel_groups.mark_fixed(ids if axis2_ids is None else inputs[0].ids)
    return _TensorChannels(ids, axis2_ids=inputs[0].ids)


def _adaptive_pool(
    module: nn.AdaptiveAvgPool2d, name: str, inputs: list[_TensorChannels], channel_groups: ChannelGroups
) -> _TensorChannels:
    return replace(inputs[0], is_1x1=module.output_size in (1, (1, 1), [1, 1]))


def _flatten(
    module: nn.Flatten, name: str, inputs: list[_TensorChannels], channel_groups: ChannelGroups
) -> _TensorChannels:
    if (module.start_dim, module.end_dim) != (1, -1):
        raise _unsupported(name, "a Flatten", f"it must start at axis 1 and end at the last, not {module.start_dim}")
    return replace(inputs[0], is_flattened=not inputs[0].is_1x1)


def _sequential(
    module: nn.Sequential, name: str, inputs: list[_TensorChannels], channel_groups: ChannelGroups
) -> _TensorChannels:
    for key, child in module.named_children():
        inputs = [_propagate(child, f"{name}.{key}", inputs, channel_groups)]
    return inputs[0]


def _expand_flattened(name: str, value: _TensorChannels, width: int) -> _TensorChannels:
    """The tensor with one id per input of the layer: a flattened map has the pixels of a channel side by side."""
    if not value.is_flattened or width % len(value.ids):
        _check_width(name, value.ids, width)
    return _TensorChannels(
        np.repeat(value.ids, width // len(value.ids)), axis2_ids=value.axis2_ids, is_1x1=value.is_1x1
    )


def _check_width(name: str, ids: ChannelIds, width: int) -> None:
    if len(ids) != width:
        raise BuildError(f"layer {name!r} must read the {width} channels it was built for, but {len(ids)} reach it")


_KNOWN_TENSORS = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}

_HANDLERS: dict[Any, Callable[[Any, str, list[_TensorChannels], ChannelGroups], _TensorChannels]] = {
    nn.Conv2d: _conv,
    nn.Linear: _linear,
    (nn.BatchNorm1d, nn.BatchNorm2d): _norm,
    nn.GroupNorm: _group_norm,
    nn.PReLU: _prelu,
    nn.InstanceNorm2d: _norm,
    (Add, Scale, Binary): _elementwise,
    ChannelChunk: _channel_chunk,
    nn.ChannelShuffle: _channel_shuffle,
    AppendAxes: _append_axes,
    Reduce: _reduce,
    Concat: _concat,
    SwapAxes: _swap_axes,
    (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d): _adaptive_pool,
    nn.Flatten: _flatten,
    nn.Sequential: _sequential,
}

_REARRANGES_REASON = "it moves numbers between channels and pixels"
_UNSUPPORTED_LAYERS: dict[type[nn.Module], str] = {
    nn.ConvTranspose2d: "transposed convolutions are not followed; use Upsample and Conv2d",
    **dict.fromkeys((nn.PixelShuffle, nn.PixelUnshuffle, nn.Unflatten, nn.Fold, nn.Unfold), _REARRANGES_REASON),
}
