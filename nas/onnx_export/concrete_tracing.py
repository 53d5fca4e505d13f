"""Tracing of a net while it runs on an example: sizes are numbers, so assertions, loops and branches on them pass.

torch.fx's own tracer knows no sizes: `assert x.dim() == 4` and `if x.shape[2] % 2` end it. Here each proxy carries the
value that it stands for. A module whose forward pass cannot be followed becomes a leaf: the smallest one that fails.

The batch size is the one size that must stay free. The net is traced with two batch sizes; what differs between the
two graphs depends on the batch.
"""

import inspect
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate

from nas.errors import BuildError, ExportError, one_line
from nas.onnx_export.tensor_caches import caches_left_alone
from search_spaces._leaf import Leaf

BATCHES = (2, 3)


@dataclass(frozen=True)
class ConcreteGraph:
    """The graph of a net with the value of each node at both batch sizes."""

    graph: fx.Graph
    values: tuple[dict[fx.Node, Any], dict[fx.Node, Any]]
    arguments: dict[fx.Node, tuple[Any, Any]]
    """(args, kwargs) of each node at the second batch size; tensors are None."""
    constants: tuple[dict[str, Tensor], dict[str, Tensor]]
    """Tensors that the forward pass made, by name of their node at the first batch size."""


class ConcreteProxy(fx.Proxy):
    """Proxy with the value that it stands for."""

    value: Any = None

    def __getattr__(self, name: str) -> Any:
        """Facts such as the shape as they are; methods and tensors as part of the graph."""
        attribute = getattr(self.value, name)
        if callable(attribute) and not isinstance(attribute, Tensor):
            return super().__getattr__(name)
        if isinstance(attribute, Tensor):
            return self.tracer.create_proxy("call_function", getattr, (self, name), {})
        return attribute

    def _assign(self, operation: Callable[[Any, Any], Any], other: Any) -> Any:
        """`self += other` and the like, which whoever holds this tensor sees."""
        return cast(ConcreteTracer, self.tracer).change(self, operation(self, other))

    def __iadd__(self, other: Any) -> Any:
        return self._assign(operator.add, other)

    def __isub__(self, other: Any) -> Any:
        return self._assign(operator.sub, other)

    def __imul__(self, other: Any) -> Any:
        return self._assign(operator.mul, other)

    def __itruediv__(self, other: Any) -> Any:
        return self._assign(operator.truediv, other)

    def __len__(self) -> int:
        """Size of the first axis."""
        return len(self.value)

    def __iter__(self) -> Iterator[Any]:
        """Items along the first axis."""
        return iter([operator.getitem(self, i) for i in range(len(self.value))])


class ConcreteTracer(fx.Tracer):
    """Tracer that runs the net on an example image."""

    def __init__(self, example: Tensor) -> None:
        super().__init__()
        self.values: dict[fx.Node, Any] = {}
        self._example, self._is_computing, self._has_image = example, False, False
        self._changed: dict[fx.Node, fx.Proxy] = {}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether the module becomes one node: layers of torch, and classes derived from one with the same forward."""
        return isinstance(m, Leaf) or _has_forward_of_torch(m)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
        """Trace through a module, or record it as a leaf where that fails."""
        if self._is_computing:
            return forward(*args, **kwargs)
        name = self.path_of_module(m)
        if self.is_leaf_module(m, name):
            return self.create_proxy("call_module", name, args, kwargs)
        last, changed = self.graph._root.prev, dict(self._changed)
        try:
            return forward(*args, **kwargs)
        except _LayerError:
            raise
        except Exception:
            while self.graph._root.prev is not last:
                node = self.graph._root.prev
                self.values.pop(node, None)
                self.graph.erase_node(node)
            self._changed = changed
            return self.create_proxy("call_module", name, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:
        """An attribute of a module; each read of a parameter is a node, so that a leaf can drop it again."""
        return attr_val if self._is_computing else super().getattr(attr, attr_val, {})

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """A proxy that can carry a value."""
        return ConcreteProxy(node, self)

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """Items of a tensor."""
        return iter(cast(ConcreteProxy, obj))

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **options: Any) -> Any:
        """Record a call and compute it; what is no tensor is returned as it is and leaves the graph."""
        if kind == "placeholder":
            if self._has_image:
                return _default_argument(str(target), args)
            self._has_image = True
        args, kwargs = map_aggregate(args, self._newest), map_aggregate(kwargs, self._newest)
        proxy = cast(ConcreteProxy, super().create_proxy(kind, target, args, kwargs, *rest, **options))
        if kind == "output":
            return proxy
        if self._changes_its_input(kind, target, args, kwargs) and isinstance(args[0], ConcreteProxy):
            self.change(args[0], proxy)
        value = self._example if kind == "placeholder" else self._compute(kind, target, args, kwargs)
        if isinstance(value, Tensor):
            proxy.value = self.values[proxy.node] = value
            return proxy
        if isinstance(value, (tuple, list)) and any(isinstance(item, (Tensor, tuple, list)) for item in value):
            proxy.value = self.values[proxy.node] = value
            items = [self.create_proxy("call_function", operator.getitem, (proxy, i), {}) for i in range(len(value))]
            return items if type(value) is list else tuple(items) if type(value) is tuple else type(value)(items)
        self.graph.erase_node(proxy.node)
        return value

    def change(self, before: fx.Proxy, after: fx.Proxy) -> fx.Proxy:
        """Have later calls on a tensor read what it became; returns that."""
        self._changed[self._newest(before).node] = after
        return after

    def _newest(self, item: Any) -> Any:
        """What a tensor became by calls in place: whoever holds its old name sees the change too."""
        while isinstance(item, fx.Proxy) and item.node in self._changed:
            item = self._changed[item.node]
        return item

    def _changes_its_input(self, kind: str, target: Any, args: Any, kwargs: Any) -> bool:
        if kind == "call_module":
            return bool(getattr(self.root.get_submodule(target), "inplace", False))
        name = target if kind == "call_method" else getattr(target, "__name__", "")
        if name.endswith("_") and not name.endswith("__"):
            return True
        if kind != "call_function":
            return False
        try:
            return inspect.signature(target).bind(*args, **kwargs).arguments.get("inplace") is True
        except (TypeError, ValueError):  # built in: it has no such option
            return False

    def _compute(self, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        def value_of(item: Any) -> Any:
            return item.value if isinstance(item, ConcreteProxy) else item

        values, keywords = map_aggregate(args, value_of), map_aggregate(kwargs, value_of)
        self._is_computing = True
        try:
            with torch.no_grad():
                if kind == "get_attr":
                    return operator.attrgetter(target)(self.root)
                if kind == "call_module":
                    return self._run_layer(target, values, keywords)
                if kind == "call_method":
                    return getattr(values[0], target)(*values[1:], **keywords)
                return target(*values, **keywords)
        finally:
            self._is_computing = False

    def _run_layer(self, name: str, values: Any, keywords: Any) -> Any:
        try:
            return self.root.get_submodule(name).forward(*values, **keywords)
        except Exception as error:
            raise _LayerError(
                f"layer {name.removeprefix('net.')!r} cannot take its input: {one_line(error)}"
            ) from error


def _default_argument(name: str, default: tuple[Any, ...]) -> Any:
    """What a parameter behind the image takes: its default, or nothing where it collects the rest.

    Raises:
        BuildError: it has no default.
    """
    if name.startswith("*"):
        return {} if name.startswith("**") else ()
    if not default:
        raise BuildError(f"a net must take one image, but its forward pass takes {name!r} too; give it a default")
    return default[0]


class _LayerError(BuildError):
    """A layer that does not run on what reaches it: no other way of tracing helps."""


def trace_concretely(net: nn.Module, input_shape: tuple[int, ...]) -> ConcreteGraph:
    """Trace a net in eval mode on images [N, *input_shape].

    Raises:
        BuildError: a layer does not run on what reaches it; the message names it.
        ExportError: the net's own forward pass depends on the values of the image, or differs with the batch size.
    """
    traced: list[tuple[fx.Graph, dict[fx.Node, Any], list[Tensor | None]]] = []
    for batch in BATCHES:
        image = 128 + 50 * torch.randn((batch, *input_shape), generator=torch.Generator().manual_seed(0))
        tracer, before = ConcreteTracer(image), set(vars(net))
        with caches_left_alone(net):
            graph = tracer.trace(net)
        # The tracer puts constants of the forward pass into the net; they move into the graph's own modules later.
        made = {name: vars(net).pop(name) for name in set(vars(net)) - before if name.startswith("_tensor_constant")}
        traced.append((graph, tracer.values, [made.get(str(node.target)) for node in graph.nodes]))
    (graph, values, constants), (other, other_values, other_constants) = traced
    pairs = list(zip(graph.nodes, other.nodes, strict=False))
    if len(graph.nodes) != len(other.nodes) or any(a.op != b.op for a, b in pairs):
        raise ExportError(f"a net must treat images alike in batches of any size, but {type(net).__name__} does not")
    return ConcreteGraph(
        graph,
        (values, {a: other_values[b] for a, b in pairs if b in other_values}),
        {a: fx.map_arg((b.args, b.kwargs), lambda node: None) for a, b in pairs},
        (_named(graph, constants), _named(graph, other_constants)),
    )


def _named(graph: fx.Graph, constants: list[Tensor | None]) -> dict[str, Tensor]:
    return {node.name: tensor for node, tensor in zip(graph.nodes, constants, strict=True) if tensor is not None}


def _has_forward_of_torch(module: nn.Module) -> bool:
    """Whether the module's class, or the first base that defines how it runs, is a layer of torch.nn."""
    if isinstance(module, nn.Sequential):
        return False
    for kind in type(module).__mro__:
        if kind.__module__.startswith(("torch.nn", "torch.ao.nn")):
            return True
        if {"forward", "_conv_forward", "_call_impl", "__call__"} & set(vars(kind)):
            return False
    return False
