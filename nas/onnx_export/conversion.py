"""Conversion of a concretely traced net to a graph of modules: each call becomes the module that computes it."""

import operator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from nas.errors import ExportError
from nas.onnx_export.call_modules import Site, module_for_site, with_axis_from_front
from nas.onnx_export.concrete_tracing import BATCHES, ConcreteGraph
from nas.onnx_export.layers import is_followed, split_padding
from nas.onnx_export.opaque_region import BatchSize, Call, Held, HeldRow, Region, Slot, map_tree
from nas.onnx_export.tensor_ops import (
    Binary,
    Permute,
    Reshape,
)  # fmt: skip
from search_spaces._leaf import Add, Leaf, Scale


def convert(net: nn.Module, traced: ConcreteGraph) -> fx.GraphModule:
    """The graph of modules of a concretely traced net; the modules of `net` are shared.

    Raises:
        ExportError: a tensor that the forward pass makes depends on the batch size.
    """
    targets = {n.name: str(n.target) for n in traced.graph.nodes if n.name in traced.constants[0]}
    made = {targets[name]: tensor for name, tensor in traced.constants[0].items()}
    vars(net).update(made)  # GraphModule copies what its graph reads
    graph = fx.GraphModule(net, traced.graph)
    for name in made:
        del vars(net)[name]
    nodes = dict(zip(traced.graph.nodes, graph.graph.nodes, strict=True))
    converter = _Converter(net, traced, graph)
    for node in reversed(graph.graph.nodes):
        if node.op == "get_attr" and not node.users:  # read for its type only; its module may be replaced below
            graph.graph.erase_node(node)
    for old, node in nodes.items():
        if node.op in ("call_module", "call_function", "call_method") and isinstance(traced.values[0].get(old), Tensor):
            converter.convert(old, node)
    converter.simplify()
    graph.graph.eliminate_dead_code()
    for node in reversed(graph.graph.nodes):
        if node.op in ("get_attr", "call_module", "call_function", "call_method") and not node.users:
            graph.graph.erase_node(node)
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph


class _Converter:
    """Replaces the calls of a graph by modules, one by one."""

    def __init__(self, net: nn.Module, traced: ConcreteGraph, graph: fx.GraphModule) -> None:
        self._net, self._traced, self._graph = net, traced, graph
        self._old = dict(zip(graph.graph.nodes, traced.graph.nodes, strict=True))
        self._shared = _shared_modules(traced.graph, net)

    def convert(self, old: fx.Node, node: fx.Node) -> None:
        """Replace one node."""
        if node.op == "call_module":
            self._convert_module(old, node)
            return
        source, pick = self._source(node)
        site = self._site(source, old, pick)
        if source.op == "call_module":
            module: nn.Module = site.region(self._net.get_submodule(str(source.target)))
            self._replace(node, str(source.target), module, site.inputs)
        else:
            self._replace(node, node.name, *module_for_site(site, source))

    def simplify(self) -> None:
        """Name a channel shuffle that is written as views, and drop the expanding of what broadcasts anyway."""
        for node in list(self._graph.graph.nodes):
            if node.op != "call_module":
                continue
            module = self._graph.get_submodule(str(node.target))
            if isinstance(module, Region):
                self._drop_expand(node, module)
            elif isinstance(module, Reshape):
                self._name_shuffle(node, module)

    def _drop_expand(self, node: fx.Node, module: Region) -> None:
        call, source = module.inner, node.args[0] if node.args else None
        if (
            not isinstance(call, Call)
            or call.function not in ("expand", "expand_as")
            or not isinstance(source, fx.Node)
        ):
            return
        values = self._traced.values[0]
        shape = self._value(node, values).shape
        for user in node.users:
            reader = self._graph.get_submodule(str(user.target)) if user.op == "call_module" else None
            broadcasts = isinstance(reader, Add | Scale) or (isinstance(reader, Binary) and reader.op_type != "MatMul")
            others = [other for other in user.all_input_nodes if other is not node]
            if not broadcasts or len(others) != 1 or self._value(others[0], values).shape != shape:
                return
        if self._value(source, values).ndim == len(shape):
            node.replace_all_uses_with(source)

    def _name_shuffle(self, node: fx.Node, last: Reshape) -> None:
        """[N, g, c, H, W] with axes 1 and 2 exchanged, between two views as [N, g * c, H, W]."""
        chain = [node]
        while len(chain) < 5 and len(chain[-1].all_input_nodes) == 1:
            (source,) = chain[-1].all_input_nodes
            if source.op != "call_module" or len(source.users) != 1:
                break
            if not isinstance(self._graph.get_submodule(str(source.target)), Permute | Reshape | nn.Identity):
                break
            chain.append(source)
        modules = [self._graph.get_submodule(str(item.target)) for item in chain]
        moving = [
            (item, module) for item, module in zip(chain, modules, strict=True) if not isinstance(module, nn.Identity)
        ]
        if len(moving) < 3:
            return
        (_, _), (_, swap), (first_node, first) = moving[:3]
        (image,) = first_node.all_input_nodes
        if not (isinstance(swap, Permute) and isinstance(first, Reshape) and swap.axes == (0, 2, 1, 3, 4)):
            return
        shape = self._value(image, self._traced.values[0]).shape
        if (-1, *shape[1:]) == last.shape and len(first.shape) == 5 and first.shape[3:] == tuple(shape[2:]):
            self._replace(node, node.name, nn.ChannelShuffle(first.shape[1]), [image])

    def _convert_module(self, old: fx.Node, node: fx.Node) -> None:
        name = str(node.target)
        module = self._net.get_submodule(name)
        site = self._site(node, old, None)
        if isinstance(module, Leaf) and not isinstance(module, Region) and not node.kwargs:
            return
        if name not in self._shared and not node.kwargs and len(site.inputs) == len(node.args):
            if isinstance(module, nn.Conv2d) and (pad_and_conv := split_padding(module)) is not None:
                with self._graph.graph.inserting_before(node):
                    self._graph.add_submodule(f"{name}_pad", pad_and_conv[0])
                    padded = self._graph.graph.call_module(f"{name}_pad", tuple(site.inputs))
                self._replace(node, name, pad_and_conv[1], [padded])
                return
            if (counted := with_axis_from_front(module, len(site.shape))) is not module:
                self._replace(node, name, counted, site.inputs)
                return
            if is_followed(module, [len(shape) for shape in site.shapes[0]]):
                return
        self._replace(node, name, site.region(module), site.inputs)

    def _source(self, node: fx.Node) -> tuple[fx.Node, int | None]:
        """The call that makes a node's tensor, and which item of its result it is."""
        if node.target is operator.getitem and isinstance(node.args[0], fx.Node):
            value = self._traced.values[0].get(self._old.get(node.args[0], node))
            if isinstance(value, (tuple, list)):
                return node.args[0], int(node.args[1])  # type: ignore[arg-type]
        return node, None

    def _site(self, source: fx.Node, old: fx.Node, pick: int | None) -> Site:
        values, others = self._traced.values
        inputs: list[fx.Node] = []
        held: dict[str, Tensor] = {}
        old_source = self._old[source]

        def fill(first: Any, second: Any) -> Any:
            if isinstance(first, fx.Node):
                tensor, is_for_each_image = self._constant(first)
                if tensor is None:
                    if first not in inputs:
                        inputs.append(first)
                    return Slot(inputs.index(first))
                name = f"held{len(held)}_{str(first.target).rpartition('.')[2]}"  # a weight, a bias, a table
                held[name] = tensor
                return HeldRow(name) if is_for_each_image else Held(name)
            if isinstance(first, dict):
                return {key: fill(first[key], second[key]) for key in first}
            if isinstance(first, (tuple, list)):
                items = [fill(a, b) for a, b in zip(first, second, strict=True)]
                return items if isinstance(first, list) else tuple(items)
            if isinstance(first, slice):
                return slice(*(fill(getattr(first, k), getattr(second, k)) for k in ("start", "stop", "step")))
            if type(first) is int and first != second:
                factor = first // BATCHES[0]
                if (factor * BATCHES[0], factor * BATCHES[1]) != (first, second):
                    raise ExportError(f"sizes must be multiples of the batch size, but {source.name!r} takes {first}")
                return BatchSize(factor)
            return first

        second_args, second_kwargs = self._traced.arguments[old_source]
        args, kwargs = fill(source.args, second_args), fill(dict(source.kwargs), second_kwargs)
        if _has_batch_size(args, kwargs):
            index, rows = self._batch_axis(inputs)

            def refer(item: Any) -> Any:
                return replace(item, index=index, rows=rows) if isinstance(item, BatchSize | HeldRow) else item

            args, kwargs = map_tree(args, refer), map_tree(kwargs, refer)
        shapes = tuple([tuple(self._value(node, v).shape) for node in inputs] for v in (values, others))
        first_shape, second_shape = values[old].shape, others[old].shape
        output_shape = tuple(a if a == b else None for a, b in zip(first_shape, second_shape, strict=True))
        return Site(source.target, args, kwargs, inputs, held, shapes, output_shape, pick)  # type: ignore[arg-type]

    def _batch_axis(self, inputs: list[fx.Node]) -> tuple[int, int]:
        """An input whose first axis is that of the batch, and its rows for one image; the image is added if need be."""
        first, second = self._traced.values
        for index, node in enumerate(inputs):
            sizes = [self._value(node, values).shape[:1] for values in (first, second)]
            rows = sizes[0][0] // BATCHES[0] if sizes[0] else 0
            if rows and tuple(size[0] for size in sizes) == tuple(rows * batch for batch in BATCHES):
                return index, rows
        inputs.append(next(node for node in self._graph.graph.nodes if node.op == "placeholder"))
        return len(inputs) - 1, 1

    def _value(self, node: fx.Node, values: dict[fx.Node, Any]) -> Tensor:
        value: Tensor = values[self._old[node]]
        return value

    def _constant(self, node: fx.Node) -> tuple[Tensor | None, bool]:
        """A weight or constant, None for what is computed; and whether it is a row that each image has."""
        if node.op != "get_attr":
            return None, False
        first, second = (constants.get(node.name) for constants in self._traced.constants)
        if first is None:
            tensor: Tensor = operator.attrgetter(str(node.target))(self._net)
            return tensor, False
        if second is not None and first.shape == second.shape and torch.equal(first, second):
            return first, False
        if second is not None and first.ndim and (len(first), len(second)) == BATCHES and _is_one_row(first, second):
            return first[:1], True
        raise ExportError(f"constants must not depend on the batch size, but {node.name!r} does")

    def _replace(self, node: fx.Node, name: str, module: nn.Module, inputs: list[fx.Node]) -> None:
        if node.op == "call_module" and name not in self._shared and name == node.target:
            self._graph.set_submodule(name, module)
        else:
            while has_submodule(self._graph, name):
                name += "_"
            self._graph.add_submodule(name, module)
        with self._graph.graph.inserting_before(node):
            new = self._graph.graph.call_module(name, tuple(inputs))
        self._old[new] = self._old[node]
        node.replace_all_uses_with(new)
        self._graph.graph.erase_node(node)


def _is_one_row(*tensors: Tensor) -> bool:
    """Whether all rows of all tensors are equal."""
    row = tensors[0][:1]
    return all(tensor.shape[1:] == row.shape[1:] and bool((tensor == row).all()) for tensor in tensors)


def has_submodule(graph: nn.Module, name: str) -> bool:
    """Whether an attribute of this path exists."""
    try:
        operator.attrgetter(name)(graph)
    except AttributeError:
        return False
    return True


def _has_batch_size(*trees: Any) -> bool:
    found = []
    fx.node.map_aggregate(trees, lambda item: found.append(item) if isinstance(item, BatchSize | HeldRow) else None)
    return bool(found)


def _shared_modules(graph: fx.Graph, net: nn.Module) -> set[str]:
    """Modules with weights that are called twice, or whose weights another module or a function has too."""
    names = [str(node.target) for node in graph.nodes if node.op == "call_module"]
    owners: dict[int, set[str]] = {}
    for name in names:
        for parameter in net.get_submodule(name).parameters():
            owners.setdefault(id(parameter), set()).add(name)
    for node in graph.nodes:
        if node.op == "get_attr" and node.users and has_submodule(net, str(node.target)):  # constants are not the net's
            owners.setdefault(id(operator.attrgetter(str(node.target))(net)), set()).add(f"{node.target}()")
    tied = {name for group in owners.values() if len(group) > 1 for name in group}
    called_twice = {
        n for n in names if names.count(n) > 1 and next(net.get_submodule(n).parameters(), None) is not None
    }
    return tied | called_twice
