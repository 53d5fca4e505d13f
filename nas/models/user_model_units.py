"""Units of a user-defined net: its layers are renamed so that their names begin with their unit.

A unit is what has a bit-width or a sparsity of its own:
- `prepare`: the pre-processing, and all layers before the first convolution;
- `stem`: the first convolution with its norm and activation;
- `stage1`, `stage2`, ...: the layers between, cut where the size of the maps changes;
- `head`: from the global pooling, the flattening or the layer that computes the logits, whichever comes first.
"""

import copy
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from nas.errors import BuildError, one_line
from nas.models.logits import LogitsOf, find_logits
from nas.models.preprocessing import PREPROCESSING, Preprocessing
from nas.onnx_export.folding import fold, has_parameters, module_nodes, module_of, trace
from nas.onnx_export.opaque_region import Region
from nas.onnx_export.rewrite_check import check_same_logits, probe_images, randomised
from search_spaces._base import HEAD, STEM

MAX_STAGES = 5
"""Maps smaller than the fifth size belong to the fifth stage."""
SECOND_SIZE_STEP = 32
"""Pixels by which the second image size of the proof is larger: enough for a net of five strides to differ."""
NORM_LAYERS = (nn.BatchNorm2d, nn.BatchNorm1d, nn.GroupNorm)

Shape = tuple[int, ...]


class _PreprocessedNet(nn.Module):
    def __init__(self, prepare: nn.Module, net: nn.Module) -> None:
        super().__init__()
        self.prepare, self.net = prepare, net

    def forward(self, image: Tensor) -> Any:
        return self.net(self.prepare(image))


def is_split_into_stages(net: nn.Module) -> bool:
    """Whether a net's children are units: `prepare`, `stem`, one stage or more, and `head`."""
    names = [name for name, _ in net.named_children()]
    stages = [name for name in names if name not in (PREPROCESSING, STEM, HEAD)]
    return (
        {PREPROCESSING, STEM, HEAD} <= set(names) and bool(stages) and all(name.startswith("stage") for name in stages)
    )


def split_into_stages(
    net: nn.Module, preprocessing: Preprocessing, *, input_shape: tuple[int, int, int], classes: int
) -> fx.GraphModule:
    """A traced net with its pre-processing, whose layers are renamed into units; it shares the weights of `net`.

    A softmax at the end is dropped, because the exported file ends with a softmax.

    Args:
        net: maps the output of `preprocessing` to logits or probabilities [N, classes]; in eval mode.
        preprocessing: takes images [N, *input_shape], 0..255.
        input_shape: (C, H, W) of the images.
        classes: number of classes of the data.

    Raises:
        ExportError: the net cannot be traced.
        BuildError: the net cannot be split; the message names the layer and the reason.
    """
    if isinstance(net, nn.DataParallel):
        net = net.module
    net_input = _net_input(preprocessing, input_shape)
    if (place := find_logits(net, net_input, classes=classes)) is not None:
        net = LogitsOf(net, place)
    # The net alone first, so that an error names the user's class and not the wrapper's.
    trace(net, input_shape=net_input)
    wrapped = _PreprocessedNet(preprocessing, net).eval()
    renamed, softmax = _split(wrapped, input_shape, classes)
    image = torch.randint(0, 256, (2, *input_shape), generator=torch.Generator().manual_seed(0)).float()
    with torch.inference_mode():
        expected, outputs = wrapped(image), renamed(image)
        outputs = outputs if softmax is None else softmax(outputs)
    if not torch.allclose(expected, outputs, rtol=1e-3, atol=1e-4):
        raise BuildError(
            "a traced net must compute the same logits as the net, but they differ; remove random operations from its "
            "forward pass in eval mode"
        )
    _prove_split(wrapped, input_shape, classes)
    return renamed


def _net_input(preprocessing: Preprocessing, input_shape: tuple[int, int, int]) -> tuple[int, int, int]:
    with torch.inference_mode():
        _, channels, height, width = preprocessing(torch.zeros(1, *input_shape)).shape
    return channels, height, width


def _split(
    wrapped: "_PreprocessedNet", input_shape: tuple[int, int, int], classes: int
) -> tuple[fx.GraphModule, nn.Module | None]:
    """The graph in units, and the softmax that was dropped at its end."""
    graph = trace(wrapped, input_shape=input_shape)
    shapes = _infer_shapes(graph, torch.zeros(2, *input_shape))
    _check_supported(graph, shapes, classes)
    softmax = _drop_softmax(graph)
    return _rename_into_units(graph, _assign_units(graph, shapes)), softmax


def _prove_split(wrapped: "_PreprocessedNet", input_shape: tuple[int, int, int], classes: int) -> None:
    """Prove on random weights, at two image sizes, that the folded graph computes what the net itself does.

    Raises:
        ExportError: the logits differ by more than rounding.
    """
    channels, height, width = input_shape
    net = randomised(wrapped)
    for shape in (input_shape, (channels, height + SECOND_SIZE_STEP, width + SECOND_SIZE_STEP)):
        images = probe_images(shape)
        try:
            with torch.inference_mode():
                expected = net(images)
                graph, softmax = _split(cast(_PreprocessedNet, net), shape, classes)
        except Exception:
            if shape == input_shape:
                raise
            return  # the net takes images of one size only
        with torch.inference_mode():
            outputs = fold(graph, input_shape=shape)(images)
            outputs = outputs if softmax is None else softmax(outputs)
        check_same_logits(expected, outputs, what="the traced and folded net")


class _ShapeRecorder(fx.Interpreter):
    """Interpreter of a graph that records the shapes of tensors and names the layer that fails."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.extra_traceback = False
        self.shapes: dict[fx.Node, Shape] = {}

    def run_node(self, n: fx.Node) -> Any:
        try:
            result = super().run_node(n)
        except Exception as error:
            raise BuildError(f"layer {original_name(n)!r} cannot take its input: {one_line(error)}") from error
        if isinstance(result, Tensor):
            self.shapes[n] = tuple(result.shape)
        return result


def _infer_shapes(graph: fx.GraphModule, image: Tensor) -> dict[fx.Node, Shape]:
    recorder = _ShapeRecorder(graph)
    with torch.inference_mode():
        recorder.run(image)
    return recorder.shapes


def _check_supported(graph: fx.GraphModule, shapes: dict[fx.Node, Shape], classes: int) -> None:
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            raise BuildError(
                f"a net's weights must be in layers, but {original_name(node)!r} is a tensor outside a layer; put it "
                "into an nn.Module"
            )
    result = _output_value(graph)
    shape = shapes.get(result) if isinstance(result, fx.Node) else None
    if shape != (2, classes):
        got = f"[N, {', '.join(map(str, shape[1:]))}]" if shape else f"a {type(result).__name__}"
        raise BuildError(f"a net must return logits [N, {classes}], one for each class of the data, but returns {got}")
    called: set[str] = set()
    for node in module_nodes(graph):
        if str(node.target) in called and has_parameters(module_of(graph, node)):
            raise BuildError(
                f"a layer with weights must be called once, but {original_name(node)!r} is called twice; use one layer "
                "for each call"
            )
        called.add(str(node.target))


def _output_value(graph: fx.GraphModule) -> Any:
    return next(node for node in graph.graph.nodes if node.op == "output").args[0]


def _drop_softmax(graph: fx.GraphModule) -> nn.Module | None:
    """Remove a softmax or log-softmax at the end of a graph and return it; None if there is none."""
    last = cast(fx.Node, _output_value(graph))
    module = module_of(graph, last) if last.op == "call_module" else None
    # Logits have two axes; dim None means axis 1 for them.
    if not isinstance(module, nn.Softmax | nn.LogSoftmax) or module.dim not in (1, -1, None):
        return None
    last.replace_all_uses_with(cast(fx.Node, last.args[0]))
    graph.graph.erase_node(last)
    graph.recompile()
    return module


def _assign_units(graph: fx.GraphModule, shapes: dict[fx.Node, Shape]) -> dict[fx.Node, str]:
    """The unit of each node."""
    nodes = module_nodes(graph)
    units = {node: PREPROCESSING for node in nodes if str(node.target).startswith("prepare.")}
    layers = [node for node in nodes if _is_layer(module_of(graph, node))]
    # Opaque regions before the first convolution belong to the pre-processing.
    followed = [node for node in layers if not isinstance(module_of(graph, node), Region)]
    if not followed or not isinstance(module_of(graph, followed[0]), nn.Conv2d):
        got = (
            f"{original_name(followed[0])!r} is a {type(module_of(graph, followed[0])).__name__}"
            if followed
            else "there is none"
        )
        raise BuildError(f"the first layer of a net must be a Conv2d, but {got}")
    layers = layers[layers.index(followed[0]) :]
    units |= dict.fromkeys(nodes[: nodes.index(layers[0])], PREPROCESSING)
    units |= dict.fromkeys(_stem_nodes(graph, layers[0], shapes), STEM)
    units |= dict.fromkeys(_head_nodes(graph, layers[-1], shapes), HEAD)
    body = [node for node in nodes if node not in units]
    sizes = sorted({_n_pixels(shapes[n]) for n in body if n in layers and _n_pixels(shapes[n]) > 1}, reverse=True)
    if not sizes and any(node in layers for node in body):
        sizes = [1]  # layers of tokens or of pooled maps only: one stage
    if not sizes:
        raise BuildError("a net must have a convolution between its first and its last layer, but has none to compress")
    for node in body:
        pixels = _n_pixels(shapes[node])
        source = next((s for s in node.all_input_nodes if str(units.get(s)).startswith("stage")), None)
        if pixels == 1 and source is not None:  # squeeze-and-excitation belongs to the map that it is computed from
            units[node] = units[source]
        else:
            rank = next((i for i, size in enumerate(sizes) if size <= pixels), len(sizes) - 1)
            units[node] = f"stage{min(rank, MAX_STAGES - 1) + 1}"
    return units


def _stem_nodes(graph: fx.GraphModule, first: fx.Node, shapes: dict[fx.Node, Shape]) -> list[fx.Node]:
    """The first layer with the norm and the activation that follow it."""
    nodes = [first]
    while len(nodes[-1].users) == 1:
        (user,) = nodes[-1].users
        if user.op != "call_module" or len(user.all_input_nodes) != 1 or shapes[user] != shapes[first]:
            break
        if _is_layer(module_of(graph, user)):
            break
        nodes.append(user)
    return nodes


def _head_nodes(graph: fx.GraphModule, last: fx.Node, shapes: dict[fx.Node, Shape]) -> list[fx.Node]:
    """The chain of layers up to the output, from the first that reduces maps to 1x1, or else from the last layer."""
    chain: list[fx.Node] = []
    node = _output_value(graph)
    while isinstance(node, fx.Node) and node.op == "call_module" and len(node.all_input_nodes) == 1:
        if chain and len(node.users) > 1:
            break
        chain.insert(0, node)
        (node,) = node.all_input_nodes
    for i, node in enumerate(chain):
        (source,) = node.all_input_nodes
        is_pooled = len(shapes[node]) in (2, 4) and _n_pixels(shapes[node]) == 1  # tokens have three axes and more
        reduces_maps = is_pooled and _n_pixels(shapes[source]) > 1
        if node is last or (reduces_maps and not has_parameters(module_of(graph, node))):
            return chain[i:]
    return [last]


def _rename_into_units(graph: fx.GraphModule, units: dict[fx.Node, str]) -> fx.GraphModule:
    """A new graph over the same modules, named by unit and original name."""
    renamed, names = fx.GraphModule(nn.Module(), fx.Graph()), set[str]()
    values: dict[fx.Node, fx.Node] = {}
    for node in graph.graph.nodes:
        if node.op != "call_module":
            values[node] = renamed.graph.node_copy(node, values.__getitem__)
            continue
        name = f"{units[node]}.{original_name(node).removeprefix('prepare.')}"
        module = module_of(graph, node)
        if name in names:  # a module without weights that is called again: each call gets a copy
            module = copy.deepcopy(module)
        while name in names:
            name += "_"
        names.add(name)
        renamed.add_submodule(name, module)
        inputs = fx.map_arg(node.args, cast(Callable[[fx.Node], Any], values.__getitem__))
        values[node] = renamed.graph.call_module(name, cast(Any, inputs))
    renamed.recompile()
    return renamed.eval()


def original_name(node: fx.Node) -> str:
    """The layer's name in the user's net."""
    return str(node.target).removeprefix("net.").removeprefix("logits_of.")


def _n_pixels(shape: Shape) -> int:
    return shape[2] * shape[3] if len(shape) == 4 else 1


def _is_layer(module: nn.Module) -> bool:
    return has_parameters(module) and not isinstance(module, (*NORM_LAYERS, nn.PReLU))
