"""Which channels of a net stand or fall together, read off its graph of leaf modules.

After the dependency graph of DepGraph (Fang et al. 2023, https://arxiv.org/abs/2301.12900). What is different here: the
graph is torch.fx's, so nothing is run and it takes milliseconds; convolutions in groups of several channels and gates
that mix neighbouring channels (ECA) are followed too, where torch-pruning 1.6 leaves layers of wrong shape.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import fx, nn

from nas.errors import BuildError
from nas.onnx_export.folding import module_of, trace
from search_spaces._leaf import Add, Concat, Scale, SwapAxes

Ids = npt.NDArray[np.int64]
"""One number per channel of a tensor. Numbers in one class are the same channel to the pruner."""


@dataclass(frozen=True)
class Layer:
    """A layer with weights: the channels that it writes and reads. Grouped layers and norms read what they write."""

    name: str
    module: nn.Module
    writes: Ids
    reads: Ids | None = None


@dataclass
class Coupling:
    """Classes of coupled channels (union-find) and the layers that they run through, in order of execution.

    Attributes:
        layers: each with weights, once, also where it is called several times.
        parent: of the union-find.
        fixed: channels that must stay: the image's, the logits', and what is no longer a channel axis.
    """

    layers: list[Layer] = field(default_factory=list)
    parent: list[int] = field(default_factory=list)
    fixed: list[int] = field(default_factory=list)

    def fresh(self, count: int) -> Ids:
        """Numbers for new channels, each a class of its own."""
        start = len(self.parent)
        self.parent.extend(range(start, start + count))
        return np.arange(start, start + count)

    def classes(self, ids: Ids) -> Ids:
        """The class of each channel."""
        return np.array([self._root(int(i)) for i in ids], dtype=np.int64)

    def fix(self, ids: Ids) -> None:
        """Say that these channels must stay."""
        self.fixed.extend(int(i) for i in ids)

    def unite(self, a: Ids, b: Ids) -> None:
        """Couple channels pairwise.

        Raises:
            BuildError: the two differ in length.
        """
        if len(a) != len(b):
            raise BuildError(f"coupled tensors must have equally many channels, but got {len(a)} and {len(b)}")
        for i, j in zip(a, b, strict=True):
            self.parent[self._root(int(i))] = self._root(int(j))

    def _root(self, i: int) -> int:
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i


@dataclass(frozen=True)
class _Value:
    """What is known of a tensor.

    Attributes:
        ids: channels on axis 1.
        second: channels on axis 2, where a `SwapAxes` has put some there.
        is_point: height and width are 1.
        is_flat: each channel stands for as many neighbouring numbers as its map had pixels; how many, the next layer
            with weights tells.
    """

    ids: Ids
    second: Ids | None = None
    is_point: bool = False
    is_flat: bool = False


def couple(net: nn.Module, *, channels: int) -> Coupling:
    """Follow the channels of an image with `channels` channels through a net.

    Raises:
        BuildError: a layer cannot be followed; it is named, with the reason.
        ExportError: the net cannot be traced.
    """
    graph, coupling = trace(net), Coupling()
    values: dict[fx.Node, _Value] = {}
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            values[node] = _Value(coupling.fresh(channels))
            coupling.fix(values[node].ids)
        elif node.op == "get_attr":
            raise _refused(str(node.target), "a tensor outside a layer", "which of its numbers are channels is unknown")
        elif node.op == "call_module":
            inputs = [values[source] for source in _sources(node)]
            values[node] = _follow(module_of(graph, node), str(node.target), inputs, coupling)
        elif node.op == "output":
            for source in _sources(node):
                coupling.fix(values[source].ids)
    return _each_once(coupling)


def _refused(name: str, what: str, reason: str) -> BuildError:
    return BuildError(f"a net to be pruned must hold layers that can be followed, but {name!r} is {what}: {reason}")


def _sources(node: fx.Node) -> list[fx.Node]:
    found: list[fx.Node] = []
    fx.map_arg(node.args, found.append)
    return found


def _each_once(coupling: Coupling) -> Coupling:
    """Layers that are called several times read and write the same channels each time."""
    first: dict[str, Layer] = {}
    owners: dict[int, str] = {}
    for layer in coupling.layers:
        for tensor in layer.module.parameters():
            if (owner := owners.setdefault(id(tensor), layer.name)) != layer.name:
                raise _refused(layer.name, f"a {type(layer.module).__name__}", f"it shares weights with {owner!r}")
        known = first.setdefault(layer.name, layer)
        if known is not layer:
            coupling.unite(known.writes, layer.writes)
            if known.reads is not None and layer.reads is not None:
                coupling.unite(known.reads, layer.reads)
    coupling.layers = list(first.values())
    return coupling


def _follow(module: nn.Module, name: str, inputs: list[_Value], coupling: Coupling) -> _Value:
    kind = f"a {type(module).__name__}"
    if extra := {key for key, _ in module.state_dict().items()} - _TENSORS if _has_weights(module) else set():
        raise _refused(name, f"{kind} with {min(extra)!r}", "its weights are computed from others")
    for known, follow in _FOLLOWED.items():
        if isinstance(module, known):
            return follow(module, name, inputs, coupling)
    if isinstance(module, tuple(_REFUSED)):
        raise _refused(name, kind, next(reason for known, reason in _REFUSED.items() if isinstance(module, known)))
    if _has_weights(module):
        raise _refused(name, kind, "which of its weights belong to which channel is not known")
    if len(inputs) != 1:
        raise _refused(name, kind, f"how its {len(inputs)} inputs become channels is not known")
    return inputs[0]


def _has_weights(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _conv(module: nn.Conv2d, name: str, inputs: list[_Value], coupling: Coupling) -> _Value:
    value = inputs[0]
    _check_width(name, value.ids, module.in_channels)
    out = coupling.fresh(module.out_channels)
    if module.groups == 1:
        coupling.layers.append(Layer(name, module, writes=out, reads=value.ids))
        return _Value(out, value.second)
    per_group = value.ids.reshape(module.groups, -1), out.reshape(module.groups, -1)  # [groups, channels in one]
    _unite_rows(np.concatenate(per_group, axis=1), coupling)
    coupling.layers.append(Layer(name, module, writes=out))
    return _Value(out, value.second)


def _unite_rows(rows: npt.NDArray[np.int64], coupling: Coupling) -> None:
    for members in rows:
        coupling.unite(members[1:], np.full(len(members) - 1, members[0]))


def _linear(module: nn.Linear, name: str, inputs: list[_Value], coupling: Coupling) -> _Value:
    value = _spread(name, inputs[0], module.in_features)
    out = coupling.fresh(module.out_features)
    coupling.layers.append(Layer(name, module, writes=out, reads=value.ids))
    return _Value(out)


def _norm(module: nn.BatchNorm1d | nn.BatchNorm2d, name: str, inputs: list[_Value], coupling: Coupling) -> _Value:
    value = _spread(name, inputs[0], module.num_features)
    coupling.layers.append(Layer(name, module, writes=value.ids))
    return value


def _group_norm(module: nn.GroupNorm, name: str, inputs: list[_Value], coupling: Coupling) -> _Value:
    """A group's statistics are those of all its channels, so they leave together."""
    _check_width(name, inputs[0].ids, module.num_channels)
    _unite_rows(inputs[0].ids.reshape(module.num_groups, -1), coupling)
    coupling.layers.append(Layer(name, module, writes=inputs[0].ids))
    return inputs[0]


def _prelu(module: nn.PReLU, name: str, inputs: list[_Value], coupling: Coupling) -> _Value:
    if module.num_parameters > 1:
        value = _spread(name, inputs[0], module.num_parameters)
        coupling.layers.append(Layer(name, module, writes=value.ids))
        return value
    shared = coupling.fresh(1)
    coupling.fix(shared)
    coupling.layers.append(Layer(name, module, writes=shared))
    return inputs[0]


def _elementwise(module: nn.Module, name: str, inputs: list[_Value], coupling: Coupling) -> _Value:
    a, b = inputs
    if min(len(a.ids), len(b.ids)) == 1 < max(len(a.ids), len(b.ids)):
        coupling.fix(min(a.ids, b.ids, key=len))
        return max(a, b, key=lambda value: len(value.ids))
    if len(a.ids) != len(b.ids):
        raise BuildError(f"inputs of {name!r} must have equally many channels, but got {len(a.ids)} and {len(b.ids)}")
    coupling.unite(a.ids, b.ids)
    return replace(a, is_point=a.is_point and b.is_point)


def _concat(module: nn.Module, name: str, inputs: list[_Value], coupling: Coupling) -> _Value:
    if any(value.is_flat for value in inputs):
        raise _refused(name, "a Concat of flattened maps", "how many numbers each channel has is not known; pool first")
    points = all(value.is_point for value in inputs)
    return _Value(np.concatenate([value.ids for value in inputs]), is_point=points)


def _swap(module: nn.Module, name: str, inputs: list[_Value], coupling: Coupling) -> _Value:
    second = inputs[0].second
    ids = coupling.fresh(1) if second is None else second
    coupling.fix(ids if second is None else inputs[0].ids)
    return _Value(ids, second=inputs[0].ids)


def _pool_to(module: nn.AdaptiveAvgPool2d, name: str, inputs: list[_Value], coupling: Coupling) -> _Value:
    return replace(inputs[0], is_point=module.output_size in (1, (1, 1), [1, 1]))


def _flatten(module: nn.Flatten, name: str, inputs: list[_Value], coupling: Coupling) -> _Value:
    if (module.start_dim, module.end_dim) != (1, -1):
        raise _refused(name, "a Flatten", f"it must start at axis 1 and end at the last, not {module.start_dim}")
    return replace(inputs[0], is_flat=not inputs[0].is_point)


def _sequence(module: nn.Sequential, name: str, inputs: list[_Value], coupling: Coupling) -> _Value:
    for key, child in module.named_children():
        inputs = [_follow(child, f"{name}.{key}", inputs, coupling)]
    return inputs[0]


def _spread(name: str, value: _Value, width: int) -> _Value:
    """The tensor with one number per input of the layer: a flattened map has a channel's pixels side by side."""
    if not value.is_flat or width % len(value.ids):
        _check_width(name, value.ids, width)
    return _Value(np.repeat(value.ids, width // len(value.ids)), second=value.second, is_point=value.is_point)


def _check_width(name: str, ids: Ids, width: int) -> None:
    if len(ids) != width:
        raise BuildError(f"layer {name!r} must read the {width} channels it was built for, but {len(ids)} reach it")


_TENSORS = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}

_FOLLOWED: dict[Any, Callable[[Any, str, list[_Value], Coupling], _Value]] = {
    nn.Conv2d: _conv,
    nn.Linear: _linear,
    (nn.BatchNorm1d, nn.BatchNorm2d): _norm,
    nn.GroupNorm: _group_norm,
    nn.PReLU: _prelu,
    (Add, Scale): _elementwise,
    Concat: _concat,
    SwapAxes: _swap,
    (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d): _pool_to,
    nn.Flatten: _flatten,
    nn.Sequential: _sequence,
}

_REARRANGES = "it moves numbers between channels and pixels"
_REFUSED: dict[type[nn.Module], str] = {
    nn.ConvTranspose2d: "transposed convolutions are not followed; use Upsample and Conv2d",
    nn.ChannelShuffle: "it changes the order of channels",
    **dict.fromkeys((nn.PixelShuffle, nn.PixelUnshuffle, nn.Unflatten, nn.Fold, nn.Unfold), _REARRANGES),
}
