"""A trained net as a graph of leaf modules with nothing in it that inference does not need.

`fold` gives every node one module: functions and methods (`operator.add`, `torch.cat`, `x.flatten(1)`) become modules
too, so that whatever walks the graph afterwards (the ONNX writer, the quantiser) looks at module types only. The
difference to torch.fx's own fusion: batch norm is folded in double precision, and scales move into convolutions.
"""

import copy
import operator
from typing import cast

import torch
from torch import Tensor, fx, nn

from nas.errors import ExportError
from nas.onnx_export.functional import Affine, Subtract, module_for_call
from search_spaces._leaf import Leaf, Normalise

__all__ = ["Affine", "LeafTracer", "Subtract", "fold", "insert_after", "module_nodes", "module_of", "trace"]


class LeafTracer(fx.Tracer):
    """Stops at torch's own modules and at every `Leaf`; everything else is traced through."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether the module becomes one node."""
        return isinstance(m, Leaf) or super().is_leaf_module(m, module_qualified_name)


def trace(net: nn.Module) -> fx.GraphModule:
    """The graph of leaf modules of a net; `net` itself is shared, not copied.

    Raises:
        ExportError: the net's control flow depends on its data, or it calls a function that has no module.
    """
    try:
        graph = LeafTracer().trace(net)
    except Exception as error:
        raise ExportError(f"a net must be traceable by torch.fx, but {type(net).__name__} is not: {error}") from error
    module = fx.GraphModule(net, graph)
    _functions_to_modules(module)
    return module


def fold(net: nn.Module, *, input_shape: tuple[int, int, int]) -> fx.GraphModule:
    """The net as it is exported: batch norm in the convolutions, dropout gone, input scaling in the stem.

    Args:
        net: from raw pixels [N, C, H, W] to logits [N, K]; it is not changed.
        input_shape: (C, H, W), used to prove that the folded graph computes the same.

    Returns:
        A graph in eval mode on the CPU in float32; each node is a module, named as in `net`.

    Raises:
        ExportError: the net cannot be traced, or folding changed what it computes (not a rounding difference).
    """
    whole = copy.deepcopy(net).cpu().float().eval()
    expected = _noise_logits(whole, input_shape)
    graph = trace(whole)
    _drop_identities(graph)
    _split_normalise(graph)
    _fold_batch_norms(graph)
    _fold_scales(graph)
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()
    _check_equal(expected, _noise_logits(graph, input_shape))
    return graph


def module_of(graph: fx.GraphModule, node: fx.Node) -> nn.Module:
    """The module that a `call_module` node calls."""
    return graph.get_submodule(str(node.target))


def module_nodes(graph: fx.GraphModule) -> list[fx.Node]:
    """The `call_module` nodes, in order of execution."""
    return [node for node in graph.graph.nodes if node.op == "call_module"]


def insert_after(graph: fx.GraphModule, node: fx.Node, module: nn.Module, name: str) -> fx.Node:
    """Put a one-input module behind a node; nobody reads it yet. `name` is a dotted path and must be free."""
    graph.add_submodule(name, module)
    with graph.graph.inserting_after(node):
        return graph.graph.call_module(name, (node,))


def _functions_to_modules(graph: fx.GraphModule) -> None:
    for node in list(graph.graph.nodes):
        if node.op not in _CALL_OPS or node.target in _SHAPE_FUNCTIONS:
            continue
        module, inputs = module_for_call(node)
        name = node.name
        while hasattr(graph, name):
            name += "_"
        graph.add_submodule(name, module)
        with graph.graph.inserting_before(node):
            replacement = graph.graph.call_module(name, tuple(inputs))
        node.replace_all_uses_with(replacement)
        graph.graph.erase_node(node)
    _drop_shape_reads(graph)
    graph.recompile()


def _drop_shape_reads(graph: fx.GraphModule) -> None:
    """Sizes are read for flattening only, which needs none as a module."""
    for node in reversed(list(graph.graph.nodes)):
        if node.op in _CALL_OPS and node.target in _SHAPE_FUNCTIONS:
            if node.users:
                module_for_call(node)  # raises: there is no module for it
            graph.graph.erase_node(node)


_CALL_OPS = ("call_function", "call_method")
_SHAPE_FUNCTIONS = ("size", getattr, operator.getitem)


def _drop_identities(graph: fx.GraphModule) -> None:
    for node in module_nodes(graph):
        if isinstance(module_of(graph, node), nn.Identity | nn.Dropout | nn.Dropout2d):
            node.replace_all_uses_with(cast(fx.Node, node.args[0]))
            graph.graph.erase_node(node)


def _split_normalise(graph: fx.GraphModule) -> None:
    for node in module_nodes(graph):
        normalise = module_of(graph, node)
        if isinstance(normalise, Normalise):
            graph.set_submodule(str(node.target), Subtract(normalise.mean))
            scale = Affine(1 / normalise.std, 0.0)
            scaled = insert_after(graph, node, scale, f"{node.target}_scale")
            node.replace_all_uses_with(scaled)
            scaled.args = (node,)


def _fold_batch_norms(graph: fx.GraphModule) -> None:
    for node in module_nodes(graph):
        norm, source = module_of(graph, node), node.args[0]
        if not isinstance(norm, nn.BatchNorm2d) or not isinstance(source, fx.Node) or source.op != "call_module":
            continue
        conv = module_of(graph, source)
        if isinstance(conv, nn.Conv2d) and len(source.users) == 1 and _called_once(graph, source):
            _fold_batch_norm(conv, norm)
            node.replace_all_uses_with(source)
            graph.graph.erase_node(node)


def _fold_batch_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    if norm.running_mean is None or norm.running_var is None:
        raise ExportError("batch norm must keep running statistics; build it with track_running_stats=True")
    mean, var = norm.running_mean.double(), norm.running_var.double()
    gain = torch.rsqrt(var + norm.eps) * (1.0 if norm.weight is None else norm.weight.double())
    bias = torch.zeros_like(mean) if conv.bias is None else conv.bias.double()
    shift = (bias - mean) * gain + (0.0 if norm.bias is None else norm.bias.double())
    conv.weight = nn.Parameter((conv.weight.double() * gain[:, None, None, None]).float().detach())
    conv.bias = nn.Parameter(shift.float().detach())


def _fold_scales(graph: fx.GraphModule) -> None:
    """Move x -> x * scale into the convolution that alone reads it: zero padding stays zero, so this is exact."""
    for node in module_nodes(graph):
        affine = module_of(graph, node)
        if not isinstance(affine, Affine) or affine.shift != 0 or len(node.users) != 1:
            continue
        reader = next(iter(node.users))
        conv = module_of(graph, reader) if reader.op == "call_module" else None
        if isinstance(conv, nn.Conv2d) and _called_once(graph, reader) and conv.padding_mode == "zeros":
            conv.weight = nn.Parameter((conv.weight.double() * affine.scale).float().detach())
            node.replace_all_uses_with(cast(fx.Node, node.args[0]))
            graph.graph.erase_node(node)


def _called_once(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether the module's weights may change for this one call's sake."""
    return sum(n.target == node.target for n in module_nodes(graph)) == 1


def _noise_logits(net: nn.Module, input_shape: tuple[int, int, int]) -> Tensor:
    """[2, K] What a net says of two images of noise."""
    pixels = torch.randint(0, 256, (2, *input_shape), generator=torch.Generator().manual_seed(0)).float()
    with torch.inference_mode():
        found: Tensor = net(pixels)
    return found


def _check_equal(expected: Tensor, got: Tensor) -> None:
    difference = float((expected - got).abs().max() / (1 + expected.abs().max()))
    if not difference < 1e-3:  # also caught when it is not a number
        raise ExportError(f"a folded net must compute what the net does, but its logits differ by {difference:.2g}")
