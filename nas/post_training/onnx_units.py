"""Units of an ONNX graph's nodes: those that a user-defined net would have, found by the sizes of the maps."""

from collections.abc import Collection, Mapping, Sequence

from onnx import ModelProto, NodeProto

from nas.models.layer_patterns import is_unit
from nas.runtimes.ort.quantization import WEIGHTED_OPS
from search_spaces._base import HEAD, STEM

PREPARE = "prepare"
"""Unit of the nodes before the first layer with weights; they stay in float."""
MAX_STAGES = 5
"""Maps smaller than the fifth size belong to the fifth stage."""


def assign_units(
    model: ModelProto, *, quantisable: Collection[str], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, str]:
    """The unit of each node by its name.

    - A file of this package has the units of its names.
    - The first layer with weights and what follows it on maps of its size is the stem.
    - From the last pooling to 1x1 on, or else from the last layer with weights, nodes are the head.
    - All others are in a stage by the size of their maps. Gates on pooled maps belong to the stage before them.

    Args:
        model: with named nodes in order of execution.
        quantisable: names of the nodes that may be narrow; without a layer with weights among them, all is `prepare`.
        shapes: of float tensors, for one image.
    """
    nodes = list(model.graph.node)
    weighted = [node for node in nodes if node.name in quantisable and node.op_type in WEIGHTED_OPS]
    if not weighted:
        return {node.name: PREPARE for node in nodes}
    first_words = {node.name: node.name.partition(".")[0] for node in nodes}
    if all(is_unit(first_words[node.name]) for node in weighted):
        return {name: word if is_unit(word) else PREPARE for name, word in first_words.items()}
    return _units_by_size(nodes, weighted, {node.name: _n_pixels(node, shapes) for node in nodes})


def _units_by_size(
    nodes: Sequence[NodeProto], weighted: Sequence[NodeProto], pixels: Mapping[str, int]
) -> dict[str, str]:
    names = [node.name for node in nodes]
    layers = [node.name for node in weighted]
    first, head = names.index(layers[0]), _head_start(names, layers, pixels)
    end_of_stem = first + 1
    while end_of_stem < head and names[end_of_stem] not in layers:
        if pixels[names[end_of_stem]] != pixels[layers[0]]:
            break
        end_of_stem += 1
    sizes = sorted({pixels[name] for name in layers[1:] if pixels[name] > 1}, reverse=True)
    units, current = dict.fromkeys(names[:first], PREPARE), "stage1"
    for i, name in enumerate(names[first:], start=first):
        if i < end_of_stem:
            units[name] = STEM
        elif i >= head:
            units[name] = HEAD
        else:
            if pixels[name] > 1:
                rank = next((k for k, size in enumerate(sizes) if size <= pixels[name]), max(0, len(sizes) - 1))
                current = f"stage{min(rank, MAX_STAGES - 1) + 1}"
            units[name] = current
    return units


def _head_start(names: Sequence[str], layers: Sequence[str], pixels: Mapping[str, int]) -> int:
    """Index of the first node of the head."""
    start = len(names)
    while start > 0 and pixels[names[start - 1]] == 1:
        start -= 1
    last = names.index(layers[-1])
    return min(start, last) if start > names.index(layers[0]) else max(last, 1)


def _n_pixels(node: NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    shape = next((shapes[name] for name in node.output if name in shapes), ())
    return shape[2] * shape[3] if len(shape) == 4 else 1
