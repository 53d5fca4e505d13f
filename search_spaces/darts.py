"""DARTS space: chains of normal and reduction cells (Liu et al. 2019, https://arxiv.org/abs/1806.09055).

A network is a stem, a chain of cells with two reduction cells at one and two thirds, global pooling and one linear
layer. Each cell reads the two outputs before it and has up to 4 nodes, each the sum of two ops; the width doubles at
each reduction. Different here:

- a pair of inputs is one choice;
- the ops are those of `_ops.py`;
- dead nodes and dead cells are not built;
- the stem has the searched width, not three times it;
- attention is on the output of each cell of the last stage, where maps are small and it is cheap.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import combinations

from torch import nn

from search_spaces._attention import attention_workload, make_attention
from search_spaces._base import Architecture, Choice, SearchSpace, Value
from search_spaces._cells import Cell, CellNet, CellStage, cell_workload
from search_spaces._ends import (
    SHARED_CHOICES,
    head_workload,
    input_workload,
    make_head,
    make_preprocessing,
    make_stem,
    round_to_multiple,
)
from search_spaces._genotype import Genotype, canonical_form, place_cells, remove_dead_nodes
from search_spaces._ops import NONE_OP, OPS
from search_spaces._work import Workload, sum_workloads

CELL_KINDS = ("normal", "reduce")
NODES_PER_CELL = 4
INPUT_PAIRS = {f"{a},{b}": (a, b) for a, b in combinations(range(NODES_PER_CELL + 1), 2)}
"""Option to the pair of inputs of a node."""
CellShape = tuple[int, int, tuple[str, str, str], tuple[str, str, str]]
INITIAL_CELLS: tuple[CellShape, ...] = (
    (3, 16, ("none", "res_conv_3x3", "none"), ("none", "conv_3x3", "none")),
    (5, 16, ("skip", "sep_conv_3x3", "none"), ("none", "conv_3x3", "none")),
    (4, 24, ("none", "res_conv_3x3", "none"), ("max_pool_3x3", "conv_3x3", "none")),
    (6, 16, ("skip", "sep_conv_3x3", "sep_conv_3x3"), ("max_pool_3x3", "sep_conv_5x5", "none")),
)
"""Cells, width, and of normal and of reduction cells: both ops of node 0, and the op of node 1 on node 0."""
LARGE_CELLS: tuple[CellShape, ...] = (
    (4, 32, ("none", "res_conv_3x3", "none"), ("none", "conv_3x3", "none")),
    (6, 32, ("res_conv_3x3", "res_conv_3x3", "res_conv_3x3"), ("conv_3x3", "conv_3x3", "res_conv_3x3")),
)
"""The same for a latency budget of milliseconds: residual chains of 0.4 and 1.3 million weights, 25 and 112 million
multiply-accumulates."""


class DartsSpace(SearchSpace):
    """Stage 1 is before the first reduction, and stages 2 and 3 begin with one.

    With few cells nothing may be before the first reduction; a stage without live cells is not in use.
    """

    name = "darts"
    stages = ("stage1", "stage2", "stage3")

    def choices(self, *, channel_multiple: int) -> tuple[Choice, ...]:
        """Six macro genes, and three for each of the four nodes of both kinds of cell."""
        macro = (
            Choice(name="cells", options=tuple(range(2, 7))),
            Choice(name="width", options=round_to_multiple((8, 16, 24, 32), channel_multiple)),
        )
        return (
            *macro,
            *SHARED_CHOICES,
            *(gene for kind in CELL_KINDS for i in range(NODES_PER_CELL) for gene in _node_genes(kind, i)),
        )

    def initial_configurations(self, *, channel_multiple: int) -> tuple[dict[str, Value], ...]:
        """Small networks with one or two live nodes in a cell: few kernels, so fast on every device."""
        return self._configurations(INITIAL_CELLS, channel_multiple)

    def large_configurations(self, *, channel_multiple: int) -> tuple[dict[str, Value], ...]:
        """Residual cells of dense convolutions, at the largest width."""
        return self._configurations(LARGE_CELLS, channel_multiple)

    def _configurations(self, shapes: Sequence[CellShape], channel_multiple: int) -> tuple[dict[str, Value], ...]:
        """The configurations of shapes, as far as the options contain them."""
        options = {choice.name: choice.options for choice in self.choices(channel_multiple=channel_multiple)}
        found = [_initial_configuration(*shape) for shape in shapes]
        return tuple(each for each in found if all(value in options[gene] for gene, value in each.items()))

    def decode(self, configuration: Mapping[str, Value]) -> Architecture:
        """Live cells and nodes only, in the canonical form of equal networks."""
        genotypes = {
            kind: _live_genotype(tuple(str(configuration[gene]) for gene in CELL_GENES[kind])) for kind in CELL_KINDS
        }
        cells = place_cells(int(configuration["cells"]), genotypes=genotypes, stages=self.stages)
        used: dict[str, Genotype] = {}
        for kind in CELL_KINDS:
            mine = [cell for cell in cells if cell.kind == kind]
            if mine:
                used[kind], inputs = canonical_form(genotypes[kind], [cell.inputs for cell in mine])
                for cell, reordered in zip(mine, inputs, strict=True):
                    cell.inputs = reordered
        return {
            "width": configuration["width"],
            **{choice.name: configuration[choice.name] for choice in SHARED_CHOICES},
            "cells": [{"stage": cell.stage, "kind": cell.kind, "plugs": cell.inputs} for cell in cells],
            **used,
        }

    def widths(self, architecture: Architecture) -> dict[str, int]:
        """Channels of one node: the stem's width, doubled at each reduction."""
        in_use = {cell["stage"] for cell in architecture["cells"]}
        return {stage: architecture["width"] << i for i, stage in enumerate(self.stages) if stage in in_use}

    def build(
        self,
        architecture: Architecture,
        *,
        input_shape: tuple[int, int, int],
        classes: int,
        widths: Mapping[str, int] | None = None,
    ) -> nn.Module:
        """The network; `widths` overrides those of the nodes, and the stem keeps its own."""
        channels, *size = input_shape
        widths = {**self.widths(architecture), **(widths or {})}
        activation = architecture["activation"]
        maps = [architecture["width"]]
        stages: dict[str, list[Cell]] = defaultdict(list)
        for cell in architecture["cells"]:
            genotype, width = architecture[cell["kind"]], widths[cell["stage"]]
            maps_now, out = tuple(maps), len(genotype) * width
            attention = architecture["attention"] if cell["stage"] == self.stages[-1] else "none"
            stages[cell["stage"]].append(
                Cell(
                    genotype,
                    cell["plugs"],
                    in_channels=maps_now,
                    width=width,
                    is_reduction=cell["kind"] == "reduce",
                    activation=activation,
                    attention=make_attention(attention, out),
                )
            )
            maps.append(out)
        return CellNet(
            prepare=make_preprocessing(size=(size[0], size[1]), input_size=architecture["input_size"]),
            stem=make_stem(channels, architecture["width"], stride=architecture["stem_stride"], activation=activation),
            stages={name: CellStage(cells) for name, cells in stages.items()},
            head=make_head(maps[-1], classes),
        )

    def workload(
        self,
        architecture: Architecture,
        *,
        input_shape: tuple[int, int, int],
        classes: int,
        widths: Mapping[str, int] | None = None,
    ) -> dict[str, Workload]:
        """Counted cell by cell, without building the network; the workload of equal cells is cached."""
        stage_widths = {**self.widths(architecture), **(widths or {})}
        cells, stem_width = architecture["cells"], architecture["width"]
        frozen = {
            kind: tuple(tuple(map(tuple, n)) for n in architecture[kind]) for kind in CELL_KINDS if kind in architecture
        }
        out = {
            stage: {kind: len(genotype) * width for kind, genotype in frozen.items()}
            for stage, width in stage_widths.items()
        }
        activation = architecture["activation"]
        workloads, size = input_workload(
            input_shape, input_size=architecture["input_size"], stem_width=stem_width,
            stem_stride=architecture["stem_stride"], activation=activation,
        )  # fmt: skip
        maps, works = [(stem_width, size)], dict[str, list[Workload]]()
        for cell in cells:
            kind, stage = cell["kind"], cell["stage"]
            inputs = tuple((slot, *maps[source], stride) for slot, source, stride in cell["plugs"])
            work, size = cell_workload(
                frozen[kind], inputs, width=stage_widths[stage], is_reduction=kind == "reduce", activation=activation
            )
            works.setdefault(stage, []).append(work)
            if stage == self.stages[-1]:
                works[stage].append(attention_workload(architecture["attention"], out[stage][kind], size**2))
            maps.append((out[stage][kind], size))
        head = head_workload(out[cells[-1]["stage"]][cells[-1]["kind"]], size**2, classes)
        return workloads | {stage: sum_workloads(parts) for stage, parts in works.items()} | {"head": head}

    operations = tuple(OPS)

    def count_operations(self, architecture: Architecture) -> tuple[int, ...]:
        """Number of live edges with each op, over all cells."""
        kinds = [cell["kind"] for cell in architecture["cells"]]
        counts = dict.fromkeys(self.operations, 0)
        for kind in CELL_KINDS:
            if times := kinds.count(kind):
                for node in architecture[kind]:
                    for op, _ in node:
                        counts[op] = counts.get(op, 0) + times
        return tuple(counts[op] for op in self.operations)


def _initial_configuration(cells: int, width: int, *ops: tuple[str, str, str]) -> dict[str, Value]:
    configuration: dict[str, Value] = {"cells": cells, "width": width, "stem_stride": 2, "input_size": 48}
    configuration |= {"activation": "relu", "attention": "none"}
    for kind, (older, newer, second) in zip(CELL_KINDS, ops, strict=True):
        for i in range(NODES_PER_CELL):
            configuration |= {f"{kind}.n{i}.pair": "0,1", f"{kind}.n{i}.op_a": NONE_OP, f"{kind}.n{i}.op_b": NONE_OP}
        configuration |= {f"{kind}.n0.op_a": older, f"{kind}.n0.op_b": newer}
        configuration |= {f"{kind}.n1.pair": "1,2", f"{kind}.n1.op_b": second}
    return configuration


def _node_genes(kind: str, i: int) -> tuple[Choice, ...]:
    pairs = tuple(f"{a},{b}" for a, b in combinations(range(i + 2), 2))
    ops = (NONE_OP, *OPS)
    prefix = f"{kind}.n{i}"
    return (
        Choice(name=f"{prefix}.pair", options=pairs),
        Choice(name=f"{prefix}.op_a", options=ops),
        Choice(name=f"{prefix}.op_b", options=ops),
    )


@lru_cache(maxsize=100_000)
def _live_genotype(values: tuple[str, ...]) -> Genotype:
    """The live nodes of a cell with these values of its genes. The result is cached and must not be modified."""
    nodes: Genotype = []
    for pair, op_a, op_b in zip(*[iter(values)] * 3, strict=True):
        a, b = INPUT_PAIRS[pair]
        nodes.append([[op_a, a], [op_b, b]])
    return remove_dead_nodes(nodes)


CELL_GENES = {kind: [gene.name for i in range(NODES_PER_CELL) for gene in _node_genes(kind, i)] for kind in CELL_KINDS}
"""The genes of each kind of cell: three for each node."""

SPACE = DartsSpace()
