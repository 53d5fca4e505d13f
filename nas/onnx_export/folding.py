"""Graph of leaf modules of a trained net, without anything that inference does not need.

`fold` turns every node into a module. Functions and methods (`operator.add`, `torch.cat`, `x.flatten(1)`) become
modules too, so that later passes over the graph (ONNX export, quantisation) need module types only.

Why not torch.fx's own fusion (`torch.fx.experimental.optimization.fuse`): here batch norm is folded in float64,
constant input scaling moves into the first convolution, and the result is checked against the net.
"""

import copy
import operator
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, fx, nn

from nas.errors import CandidateError, ExportError, one_line
from nas.onnx_export.concrete_tracing import trace_concretely
from nas.onnx_export.conversion import convert
from nas.onnx_export.functional import Affine, Subtract, module_for_call
from nas.onnx_export.layers import DROPOUT_LAYERS
from search_spaces._leaf import Leaf, Normalise, PerChannel


class LeafTracer(fx.Tracer):
    """Tracer that stops at torch's own modules and at every `Leaf`, and traces through everything else."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether the module becomes one node."""
        return isinstance(m, Leaf) or super().is_leaf_module(m, module_qualified_name)


def trace(net: nn.Module, *, input_shape: tuple[int, int, int] | None = None) -> fx.GraphModule:
    """The graph of leaf modules of a net; the modules of `net` are shared, not copied.

    Args:
        net: the net.
        input_shape: (C, H, W) of the images. With it the net is traced while it runs, so that control flow on sizes
            passes, each function is proved against its module, and what is not known becomes an opaque region. Without
            it the net must consist of modules and of functions whose axes need no shape.

    Raises:
        BuildError: a layer does not run on what reaches it.
        ExportError: the net's control flow depends on its data, or it calls a function that has no module.
    """
    if input_shape is not None:
        return _trace_concretely(net, input_shape)
    try:
        graph = LeafTracer().trace(net)
    except Exception as error:
        raise ExportError(f"a net must be traceable by torch.fx, but {type(net).__name__} is not: {error}") from error
    module = fx.GraphModule(net, graph)
    _functions_to_modules(module)
    return module


def _trace_concretely(net: nn.Module, input_shape: tuple[int, int, int]) -> fx.GraphModule:
    try:
        return convert(net, trace_concretely(net, input_shape))
    except CandidateError:
        raise
    except Exception as error:
        reason = f"{one_line(error)}{_user_line(error)}"
        raise ExportError(f"a net must be traceable by torch.fx, but {type(net).__name__} is not: {reason}") from error


def _user_line(error: BaseException) -> str:
    """Where in the user's code an error came from: the last line outside of torch and of this package."""
    frames = traceback.extract_tb(error.__traceback__)
    outside = [f for f in frames if not any(part in f.filename for part in _OWN_FOLDERS)]
    return f" ({Path(outside[-1].filename).name}, line {outside[-1].lineno}: {outside[-1].line})" if outside else ""


_OWN_FOLDERS = (str(Path(torch.__file__).parent), str(Path(__file__).parent), "<eval_with_key>", "<frozen")


def fold(net: nn.Module, *, input_shape: tuple[int, int, int]) -> fx.GraphModule:
    """The net as it is exported: batch norm folded into the convolutions, dropout removed, input scaling in the stem.

    Args:
        net: from raw pixels [N, C, H, W] to logits [N, K]; it is not changed.
        input_shape: (C, H, W), for the check that the folded graph computes the same.

    Returns:
        A graph in eval mode on the CPU in float32; each node is a module, named as in `net`.

    Raises:
        ExportError: the net cannot be traced, or folding changed its logits by more than rounding.
    """
    unfolded = copy.deepcopy(net).cpu().float().eval()
    expected = _noise_logits(unfolded, input_shape)
    graph = trace(unfolded, input_shape=None if _is_modules_only(unfolded) else input_shape)
    _drop_identities(graph)
    _split_normalise(graph)
    _fold_batch_norms(graph)
    _fold_scales(graph)
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()
    _check_equal(expected, _noise_logits(graph, input_shape))
    return graph


def _is_modules_only(net: nn.Module) -> bool:
    """Whether a net is traced to modules alone, as those of search spaces are: then no function needs a shape."""
    try:
        graph = LeafTracer().trace(net)
    except Exception:
        return False
    return not any(node.op in (*_CALL_OPS, "get_attr") for node in graph.nodes)


def module_of(graph: fx.GraphModule, node: fx.Node) -> nn.Module:
    """The module that a `call_module` node calls."""
    return graph.get_submodule(str(node.target))


def module_nodes(graph: fx.GraphModule) -> list[fx.Node]:
    """The `call_module` nodes, in order of execution."""
    return [node for node in graph.graph.nodes if node.op == "call_module"]


def insert_after(graph: fx.GraphModule, node: fx.Node, module: nn.Module, name: str) -> fx.Node:
    """Insert a one-input module behind a node; nothing reads it yet.

    Args:
        graph: changed in place.
        node: the node that the module reads.
        module: the module.
        name: its dotted path, which must be free.
    """
    graph.add_submodule(name, module)
    with graph.graph.inserting_after(node):
        return graph.graph.call_module(name, (node,))


def replace_inputs(node: fx.Node, replacement: fx.Node, readers: Iterable[fx.Node]) -> None:
    """Make these readers of `node` read `replacement` instead."""
    for reader in readers:
        reader.replace_input_with(node, replacement)


def unit_name(item: fx.Node | str) -> str:
    """The unit (`stem`, a stage, `head`) of a module node or of a qualified name: its first component."""
    return (item if isinstance(item, str) else str(item.target)).partition(".")[0]


def has_parameters(module: nn.Module) -> bool:
    """Whether the module or a child of it has a parameter."""
    return next(module.parameters(), None) is not None


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
    """Remove reads of sizes: they are there for flattening only, which needs none as a module."""
    for node in reversed(list(graph.graph.nodes)):
        if node.op in _CALL_OPS and node.target in _SHAPE_FUNCTIONS:
            if node.users:
                module_for_call(node)  # raises an ExportError that names the call: sizes have no module
            graph.graph.erase_node(node)


_CALL_OPS = ("call_function", "call_method")
_SHAPE_FUNCTIONS = ("size", getattr, operator.getitem)


def _drop_identities(graph: fx.GraphModule) -> None:
    for node in module_nodes(graph):
        if isinstance(module_of(graph, node), DROPOUT_LAYERS):
            node.replace_all_uses_with(cast(fx.Node, node.args[0]))
            graph.graph.erase_node(node)


def _split_normalise(graph: fx.GraphModule) -> None:
    for node in module_nodes(graph):
        normalise = module_of(graph, node)
        if isinstance(normalise, Normalise):
            graph.set_submodule(str(node.target), Subtract(normalise.mean))
            std = normalise.std
            scale = Affine(tuple(1 / s for s in std) if isinstance(std, tuple) else 1 / std, 0.0)
            scaled = insert_after(graph, node, scale, f"{node.target}_scale")
            node.replace_all_uses_with(scaled)
            scaled.args = (node,)


def _fold_batch_norms(graph: fx.GraphModule) -> None:
    for node in module_nodes(graph):
        norm, source = module_of(graph, node), next(iter(node.args), None)
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
    # y = (conv(x) + bias - mean) * gain + beta, in float64 so that one rounding to float32 remains.
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
            scaled = _scale_inputs(conv, affine.scale)
            if scaled is None:
                continue
            conv.weight = nn.Parameter(scaled)
            node.replace_all_uses_with(cast(fx.Node, node.args[0]))
            graph.graph.erase_node(node)


def _scale_inputs(conv: nn.Conv2d, scale: PerChannel) -> Tensor | None:
    """The weights of a convolution whose input is scaled; None where each channel has a scale and groups mix them."""
    weight = conv.weight.detach().double()
    if not isinstance(scale, tuple):
        return (weight * scale).float()
    return (weight * weight.new_tensor(scale)[:, None, None]).float() if conv.groups == 1 else None


def _called_once(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether the module is called once only, so that its weights may change for this call."""
    return sum(n.target == node.target for n in module_nodes(graph)) == 1


def _noise_logits(net: nn.Module, input_shape: tuple[int, int, int]) -> Tensor:
    """Logits [2, K] of two noise images."""
    pixels = torch.randint(0, 256, (2, *input_shape), generator=torch.Generator().manual_seed(0)).float()
    with torch.inference_mode():
        logits: Tensor = net(pixels)
    return logits


def _check_equal(expected: Tensor, got: Tensor) -> None:
    difference = float((expected - got).abs().max() / (1 + expected.abs().max()))
    if not difference < 1e-3:  # written this way round, NaN is rejected too
        raise ExportError(f"a folded net must compute what the net does, but its logits differ by {difference:.2g}")
