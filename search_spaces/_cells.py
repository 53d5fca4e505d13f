"""Cell modules: a cell is a small graph of ops from two earlier maps to one output."""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from torch import Tensor, nn

from search_spaces._genotype import CellInput, Genotype, Node
from search_spaces._leaf import Add, Concat
from search_spaces._ops import conv_bn_act, make_op, op_fusion_tail, op_workload
from search_spaces._work import (
    Workload,
    activation_fusion_tail,
    activation_workload,
    add_workload,
    layer_workload,
    memory_bound_workload,
    sum_workloads,
)


class CellNode(nn.Module):
    """Sum of one or two ops, each on a slot or an earlier node of the cell."""

    def __init__(self, edges: Node, *, width: int, is_reduction: bool, activation: str) -> None:
        super().__init__()
        self.input_ids = [int(source) for _, source in edges]
        for name, (word, source) in zip(("a", "b"), edges, strict=False):
            stride = 2 if is_reduction and int(source) < 2 else 1
            self.add_module(name, make_op(str(word), width=width, stride=stride, activation=activation))
        if len(edges) == 2:
            self.add = Add()

    def forward(self, maps: dict[int, Tensor]) -> Tensor:
        """Shape [N, width, H, W]; `maps` holds the slots and nodes of the cell by number."""
        values = [self.get_submodule(n)(maps[s]) for n, s in zip(("a", "b"), self.input_ids, strict=False)]
        total: Tensor = self.add(*values) if len(values) == 2 else values[0]
        return total


class Cell(nn.Module):
    """A 1x1 convolution on each input, then the nodes, their concatenation, and attention if any.

    Args:
        genotype: live nodes only.
        inputs: of each slot that is read.
        in_channels: channels of all maps so far, stem first, by source number.
        width: channels of each node.
        is_reduction: whether ops that read a slot have stride 2.
        activation: name of the activation.
        attention: applied to the output; None for none.
    """

    def __init__(
        self,
        genotype: Genotype,
        inputs: Sequence[CellInput],
        *,
        in_channels: Sequence[int],
        width: int,
        is_reduction: bool,
        activation: str,
        attention: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.inputs = [(slot, source) for slot, source, _ in inputs]
        for slot, source, stride in inputs:
            adapt = conv_bn_act(in_channels[source], width, 1, stride=stride, activation=activation)
            self.add_module(f"input{slot}", adapt)
        self.n_nodes = len(genotype)
        for i, edges in enumerate(genotype):
            self.add_module(f"node{i}", CellNode(edges, width=width, is_reduction=is_reduction, activation=activation))
        self.concat = Concat() if self.n_nodes > 1 else None
        self.attention = attention

    def forward(self, outputs: Sequence[Tensor]) -> Tensor:
        """Shape [N, nodes * width, H, W]; `outputs` are the maps of the stem and of all earlier cells."""
        maps = {slot: self.get_submodule(f"input{slot}")(outputs[source]) for slot, source in self.inputs}
        for i in range(self.n_nodes):
            maps[i + 2] = self.get_submodule(f"node{i}")(maps)
        nodes = [maps[i + 2] for i in range(self.n_nodes)]
        joined: Tensor = nodes[0] if self.concat is None else self.concat(*nodes)
        return joined if self.attention is None else self.attention(joined)


class CellStage(nn.Module):
    """Cells in order, as `cell0`, `cell1`, ...; each reads from the list of all earlier maps."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        super().__init__()
        self.n_cells = len(cells)
        for i, cell in enumerate(cells):
            self.add_module(f"cell{i}", cell)

    def forward(self, outputs: Sequence[Tensor]) -> list[Tensor]:
        """`outputs` with this stage's maps appended."""
        grown = list(outputs)
        for i in range(self.n_cells):
            grown.append(self.get_submodule(f"cell{i}")(grown))
        return grown


class CellNet(nn.Module):
    """A stem, stages of cells and a head: images [N, C, H, W] to logits [N, classes]."""

    def __init__(self, *, prepare: nn.Module, stem: nn.Module, stages: dict[str, CellStage], head: nn.Module) -> None:
        super().__init__()
        self.prepare = prepare
        self.stem = stem
        self.stages = tuple(stages)
        for name, stage in stages.items():
            self.add_module(name, stage)
        self.head = head

    def forward(self, image: Tensor) -> Tensor:
        """Shape [N, classes]; `image` holds raw pixel values."""
        outputs = [self.stem(self.prepare(image))]
        for name in self.stages:
            outputs = self.get_submodule(name)(outputs)
        logits: Tensor = self.head(outputs[-1])
        return logits


@lru_cache(maxsize=100_000)
def cell_workload(
    genotype: tuple[tuple[tuple[str, int], ...], ...],
    inputs: tuple[tuple[int, int, int, int], ...],
    *,
    width: int,
    is_reduction: bool,
    activation: str,
) -> tuple[Workload, int]:
    """Workload of a cell without attention, and the height of its output.

    Args:
        genotype: live nodes only.
        inputs: of each slot that is read: slot, channels and height of its input map, and stride.
        width: channels of each node.
        is_reduction: whether ops that read a slot have stride 2.
        activation: name of the activation.
    """
    works, sizes = [], dict[int, int]()
    for slot, channels, size, stride in inputs:
        sizes[slot] = -(-size // stride)
        works.append(layer_workload(1, channels, width, size**2, sizes[slot] ** 2))
        works.append(activation_workload(activation, width, sizes[slot] ** 2))
    out = -(-next(iter(sizes.values())) // 2) if is_reduction else next(iter(sizes.values()))
    readers = Counter(source for node in genotype for _, source in node)
    adapted = activation_fusion_tail(activation)
    for i, node in enumerate(genotype):
        tails = []
        for word, source in node:
            stride = 2 if is_reduction and source < 2 else 1
            works.append(op_workload(word, width=width, stride=stride, size=sizes[source], activation=activation))
            tail = op_fusion_tail(word, stride=stride, activation=activation)
            if word == "skip" and stride == 1 and source < 2 and readers[source] == 1:
                tail = adapted  # the identity passes on the tail of the 1x1 convolution, if it is its only reader
            tails.append(tail)
        if len(node) == 2:
            works.append(add_workload(width, out**2, *tails))
        sizes[i + 2] = out
    if len(genotype) > 1:
        works.append(memory_bound_workload(len(genotype) * width, len(genotype) * width, out**2, out**2))
    return sum_workloads(works), out
