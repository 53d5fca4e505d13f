"""Which channels of a net stand or fall together, read off its graph of leaf modules.

After the dependency graph of DepGraph (Fang et al. 2023, https://arxiv.org/abs/2301.12900). What is different here: the
graph is torch.fx's, so nothing is run and it takes milliseconds; convolutions in groups of several channels and gates
that mix neighbouring channels (ECA) are followed too, where torch-pruning 1.6 leaves layers of wrong shape.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import fx, nn

from nas._fold import module_of, trace
from nas.errors import BuildError
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
    """Classes of coupled channels (union-find) and the layers that they run through, in order of execution."""

    layers: list[Layer] = field(default_factory=list)
    parent: list[int] = field(default_factory=list)

    def fresh(self, count: int) -> Ids:
        """Numbers for new channels, each a class of its own."""
        start = len(self.parent)
        self.parent.extend(range(start, start + count))
        return np.arange(start, start + count)

    def classes(self, ids: Ids) -> Ids:
        """The class of each channel."""
        return np.array([self._root(int(i)) for i in ids], dtype=np.int64)

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
    """Channels on axis 1 of a tensor, and on axis 2 where a `SwapAxes` has put some there."""

    ids: Ids
    second: Ids | None = None


def couple(net: nn.Module, *, channels: int) -> Coupling:
    """Follow the channels of an image with `channels` channels through a net.

    Raises:
        BuildError: a module with weights is of a type that cannot be followed; it is named.
        ExportError: the net cannot be traced.
    """
    graph, coupling = trace(net), Coupling()
    values: dict[fx.Node, _Value] = {}
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            values[node] = _Value(coupling.fresh(channels))
        elif node.op == "call_module":
            inputs = [values[source] for source in _sources(node)]
            values[node] = _follow(module_of(graph, node), str(node.target), inputs, coupling)
    return coupling


def _sources(node: fx.Node) -> list[fx.Node]:
    found: list[fx.Node] = []
    fx.map_arg(node.args, found.append)
    return found


def _follow(module: nn.Module, name: str, inputs: list[_Value], coupling: Coupling) -> _Value:
    for kind, follow in _FOLLOWED.items():
        if isinstance(module, kind):
            return follow(module, name, inputs, coupling)
    if next(module.parameters(), None) is not None:
        raise BuildError(f"a net to be pruned must hold known layers, but {name!r} is a {type(module).__name__}")
    return inputs[0]


def _conv(module: nn.Conv2d, name: str, inputs: list[_Value], coupling: Coupling) -> _Value:
    value = inputs[0]
    _check_width(name, value.ids, module.in_channels)
    out = coupling.fresh(module.out_channels)
    if module.groups == 1:
        coupling.layers.append(Layer(name, module, writes=out, reads=value.ids))
        return _Value(out, value.second)
    per_group = value.ids.reshape(module.groups, -1), out.reshape(module.groups, -1)  # [groups, channels in one]
    for members in np.concatenate(per_group, axis=1):
        coupling.unite(members[1:], np.full(len(members) - 1, members[0]))
    coupling.layers.append(Layer(name, module, writes=out))
    return _Value(out, value.second)


def _linear(module: nn.Linear, name: str, inputs: list[_Value], coupling: Coupling) -> _Value:
    _check_width(name, inputs[0].ids, module.in_features)
    out = coupling.fresh(module.out_features)
    coupling.layers.append(Layer(name, module, writes=out, reads=inputs[0].ids))
    return _Value(out)


def _norm(module: nn.BatchNorm2d, name: str, inputs: list[_Value], coupling: Coupling) -> _Value:
    _check_width(name, inputs[0].ids, module.num_features)
    coupling.layers.append(Layer(name, module, writes=inputs[0].ids))
    return inputs[0]


def _elementwise(module: nn.Module, name: str, inputs: list[_Value], coupling: Coupling) -> _Value:
    coupling.unite(inputs[0].ids, inputs[1].ids)
    return inputs[0]


def _concat(module: nn.Module, name: str, inputs: list[_Value], coupling: Coupling) -> _Value:
    return _Value(np.concatenate([value.ids for value in inputs]))


def _swap(module: nn.Module, name: str, inputs: list[_Value], coupling: Coupling) -> _Value:
    second = inputs[0].second
    return _Value(coupling.fresh(1) if second is None else second, second=inputs[0].ids)


def _check_width(name: str, ids: Ids, width: int) -> None:
    if len(ids) != width:
        raise BuildError(f"layer {name!r} must read the {width} channels it was built for, but {len(ids)} reach it")


_FOLLOWED: dict[Any, Callable[[Any, str, list[_Value], Coupling], _Value]] = {
    nn.Conv2d: _conv,
    nn.Linear: _linear,
    nn.BatchNorm2d: _norm,
    (Add, Scale): _elementwise,
    Concat: _concat,
    SwapAxes: _swap,
}
