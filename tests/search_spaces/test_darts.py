"""DARTS space: published parameter counts, canonical architectures, and genes without effect."""

from collections import Counter
from itertools import permutations
from random import Random

import pytest
import torch

from search_spaces._base import Architecture, DisconnectedError, Value
from search_spaces.darts import CELL_KINDS, NODES_PER_CELL, SPACE

CHOICES = {choice.name: choice.options for choice in SPACE.choices(channel_multiple=8)}
MACRO: dict[str, Value] = {
    "cells": 5,
    "width": 8,
    "stem_stride": 1,
    "input_size": 48,
    "activation": "relu",
    "attention": "none",
}

Nodes = list[tuple[tuple[str, int], tuple[str, int]]]

# DARTS' published V2 genotype (https://github.com/quark0/darts, cnn/genotypes.py)
V2_NORMAL: Nodes = [
    (("sep_conv_3x3_twice", 0), ("sep_conv_3x3_twice", 1)),
    (("sep_conv_3x3_twice", 0), ("sep_conv_3x3_twice", 1)),
    (("skip", 0), ("sep_conv_3x3_twice", 1)),
    (("skip", 0), ("dil_conv_3x3", 2)),
]
V2_REDUCE: Nodes = [
    (("max_pool_3x3", 0), ("max_pool_3x3", 1)),
    (("max_pool_3x3", 1), ("skip", 2)),
    (("max_pool_3x3", 0), ("skip", 2)),
    (("max_pool_3x3", 1), ("skip", 2)),
]


def pick(normal: Nodes, reduce: Nodes, **macro: Value) -> dict[str, Value]:
    picked: dict[str, Value] = {**MACRO, **macro}
    for kind, nodes in (("normal", normal), ("reduce", reduce)):
        for i, node in enumerate(nodes):
            (op_a, a), (op_b, b) = sorted(node, key=lambda edge: edge[1])
            picked |= {f"{kind}.n{i}.pair": f"{a},{b}", f"{kind}.n{i}.op_a": op_a, f"{kind}.n{i}.op_b": op_b}
    return picked


def random_nodes(rng: Random) -> Nodes:
    ops = CHOICES["normal.n0.op_a"]
    nodes: Nodes = []
    for i in range(NODES_PER_CELL):
        a, b = sorted(rng.sample(range(i + 2), 2))
        nodes.append(((str(rng.choice(ops)), a), (str(rng.choice(ops)), b)))
    return nodes


def renamed(nodes: Nodes, rng: Random) -> Nodes:
    """The same cell with its nodes in another valid order, drawn at random."""
    orders = list(permutations(range(NODES_PER_CELL)))
    rng.shuffle(orders)
    for order in orders:
        number = {0: 0, 1: 1} | {node + 2: i + 2 for i, node in enumerate(order)}
        moved = [tuple((op, number[source]) for op, source in nodes[n]) for n in order]
        if all(source < i + 2 for i, node in enumerate(moved) for _, source in node):
            return [(a, b) for a, b in moved]
    raise AssertionError("the order of the nodes themselves is always possible")


def decode(picked: dict[str, Value]) -> Architecture | None:
    try:
        return SPACE.decode(picked)
    except DisconnectedError:
        return None


def published_count() -> int:
    """Parameters of DARTS V2 on CIFAR-10 (20 cells of width 36, no auxiliary head), counted from its description.

    FactorizedReduce holds as many weights as the 1x1 convolution that stands for it here. DARTS' stem has 3 times the
    width.
    """
    stem = 3 * 36
    total = 9 * 3 * stem + 2 * stem
    older, newer, width = stem, stem, 36
    for cell in range(20):
        reduces = cell in (6, 13)
        width *= 2 if reduces else 1
        total += (older + newer) * width + 2 * 2 * width  # both 1x1 convolutions with their batch norms
        separable = 9 * width + width * width + 2 * width
        total += 0 if reduces else 5 * 2 * separable + separable  # five separable, one dilated; reductions only pool
        older, newer = newer, 4 * width
    return total + newer * 10 + 10


def test_the_published_network_has_the_published_number_of_parameters() -> None:
    """The paper's table gives 3.3 million; all weights but those of the narrower stem agree."""
    assert round(published_count() / 1e6, 1) == 3.3
    architecture = SPACE.decode(pick(V2_NORMAL, V2_REDUCE, cells=20, width=36))
    net = SPACE.build(architecture, input_shape=(3, 32, 32), classes=10)
    stem = (3 * 9 + 2) * (108 - 36)
    read_by_first_two_cells = 3 * 36 * (108 - 36)
    assert sum(p.numel() for p in net.parameters()) + stem + read_by_first_two_cells == published_count()


def test_the_flat_space_has_the_size_that_was_counted() -> None:
    cell = [name for name in CHOICES if name.startswith("normal.")]
    assert len([name for name in cell if len(CHOICES[name]) > 1]) == 11  # 22 for both kinds
    pairs = [len(CHOICES[f"normal.n{i}.pair"]) for i in range(NODES_PER_CELL)]
    assert pairs == [1, 3, 6, 10]
    assert len(CHOICES["normal.n0.op_a"]) == 15


def test_renamed_cells_decode_to_equal_architectures() -> None:
    rng = Random(1)
    compared = 0
    for _ in range(200):
        normal, reduce = random_nodes(rng), random_nodes(rng)
        macro = {name: rng.choice(CHOICES[name]) for name in MACRO}
        first = decode(pick(normal, reduce, **macro))
        assert decode(pick(renamed(normal, rng), renamed(reduce, rng), **macro)) == first
        compared += first is not None
    assert compared > 100


def test_equal_weights_give_equal_outputs_after_renaming() -> None:
    """With two independent nodes exchanged, the networks of both configurations have equal logits."""
    normal: Nodes = [
        (("conv_3x3", 0), ("max_pool_3x3", 1)),
        (("sep_conv_3x3", 0), ("skip", 1)),
        (("skip", 2), ("avg_pool_3x3", 3)),
        (("mb_conv_3x3", 4), ("skip", 0)),
    ]
    swapped = [normal[1], normal[0], (("avg_pool_3x3", 2), ("skip", 3)), normal[3]]
    nets = []
    for nodes in (normal, swapped):
        torch.manual_seed(0)
        nets.append(SPACE.build(SPACE.decode(pick(nodes, V2_REDUCE)), input_shape=(1, 48, 48), classes=7).eval())
    image = torch.rand(2, 1, 48, 48) * 255
    with torch.no_grad():
        assert torch.equal(nets[0](image), nets[1](image))


def test_different_convolutions_are_different_architectures() -> None:
    """Networks with different multisets of weight shapes have different keys."""
    rng = Random(2)
    shapes_of: dict[str, Counter[tuple[int, ...]]] = {}
    for _ in range(30):
        architecture = decode(pick(random_nodes(rng), random_nodes(rng), cells=rng.choice((2, 3))))
        if architecture is not None:
            net = SPACE.build(architecture, input_shape=(1, 48, 48), classes=7)
            shapes = Counter(tuple(p.shape) for p in net.parameters())
            assert shapes_of.setdefault(repr(architecture), shapes) == shapes
    assert len(shapes_of) > 10


def test_slots_are_interchangeable_where_both_read_the_stem() -> None:
    """With three cells the only normal cell is the first, and both its slots hold the stem's map."""
    swapped = [tuple((op, 1 - s if s < 2 else s) for op, s in node) for node in V2_NORMAL]
    mirrored = [(a, b) for a, b in swapped]
    assert SPACE.decode(pick(V2_NORMAL, V2_REDUCE, cells=3)) == SPACE.decode(pick(mirrored, V2_REDUCE, cells=3))
    assert SPACE.decode(pick(V2_NORMAL, V2_REDUCE, cells=4)) != SPACE.decode(pick(mirrored, V2_REDUCE, cells=4))


def test_the_number_of_cells_does_not_matter_where_the_rest_is_dead() -> None:
    """Eight cells whose normal ones read only the older map are the same chain as five that read only the newer."""

    def only(slot: int) -> Nodes:
        dead = (("none", 0), ("none", 1))
        edge = ("conv_3x3", slot), ("none", 1 - slot)
        return [edge, dead, dead, dead]

    eight = SPACE.decode(pick(only(0), only(1), cells=8))
    five = SPACE.decode(pick(only(1), only(1), cells=5))
    assert eight == five
    assert [cell["kind"] for cell in five["cells"]] == ["normal", "reduce", "normal", "reduce", "normal"]


def test_genes_of_a_kind_that_is_not_in_use_are_dropped() -> None:
    two = SPACE.decode(pick(V2_NORMAL, V2_REDUCE, cells=2))
    assert "normal" not in two
    rng = Random(3)
    assert all(SPACE.decode(pick(random_nodes(rng), V2_REDUCE, cells=2)) == two for _ in range(10))
    assert SPACE.widths(two) == {"stage2": 16, "stage3": 32}


def test_a_disconnected_network_is_refused() -> None:
    dead: Nodes = [(("none", 0), ("none", 1))] * NODES_PER_CELL
    for kind in CELL_KINDS:
        nodes = {"normal": V2_NORMAL, "reduce": V2_REDUCE} | {kind: dead}
        with pytest.raises(DisconnectedError, match=f"a {kind} cell needs a path"):
            SPACE.decode(pick(nodes["normal"], nodes["reduce"]))


def test_attention_is_on_every_cell_of_the_last_stage_only() -> None:
    net = SPACE.build(SPACE.decode(pick(V2_NORMAL, V2_REDUCE, attention="se")), input_shape=(1, 48, 48), classes=7)
    found = {name.split(".attention")[0] for name, _ in net.named_modules() if ".attention" in name}
    assert found == {"stage3.cell0", "stage3.cell1"}


@pytest.mark.parametrize("stem_stride", [1, 2])
def test_the_stem_and_the_reductions_set_the_size_of_the_last_map(stem_stride: int) -> None:
    architecture = SPACE.decode(pick(V2_NORMAL, V2_REDUCE, stem_stride=stem_stride))
    net = SPACE.build(architecture, input_shape=(1, 112, 112), classes=7).eval()
    sizes: list[torch.Size] = []
    net.get_submodule("head").register_forward_pre_hook(lambda module, inputs: sizes.append(inputs[0].shape))
    net(torch.rand(1, 1, 112, 112))
    side = 48 // stem_stride // 4
    assert sizes == [(1, NODES_PER_CELL * 8 * 4, side, side)]


def test_large_configurations_are_networks_that_use_a_latency_budget() -> None:
    for channel_multiple in (1, 4, 8, 16):
        large = SPACE.large_configurations(channel_multiple=channel_multiple)
        nets = [SPACE.build(SPACE.decode(each), input_shape=(1, 48, 48), classes=7) for each in large]
        assert [round(sum(p.numel() for p in net.parameters()), -5) for net in nets] == [400_000, 1_300_000]
