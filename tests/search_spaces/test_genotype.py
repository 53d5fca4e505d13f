"""Canonical form of genotypes against an exhaustive search for isomorphisms between cells."""

from itertools import combinations, groupby, permutations, product

import pytest

from search_spaces._base import DisconnectedError
from search_spaces._genotype import Genotype, PlacedCell, canonical_form, place_cells, remove_dead_nodes, used_slots

STAGES = ("stage1", "stage2", "stage3")
DIFFERENT = [[[0, 0, 1], [1, 1, 1]]]  # the two slots read different maps
SAME = [[[0, 0, 1], [1, 0, 1]]]


def small_cells() -> list[Genotype]:
    """All cells of two nodes over three ops."""
    ops = ("none", "skip", "conv_3x3")
    return [
        [[[a, 0], [b, 1]], [[c, i], [d, j]]]
        for a, b, c, d in product(ops, repeat=4)
        for i, j in combinations(range(3), 2)
    ]


def edges(genotype: Genotype) -> list[tuple[int, str, int]]:
    return [(i + 2, str(op), int(source)) for i, node in enumerate(genotype) for op, source in node]


def isomorphic(a: Genotype, b: Genotype, *, slots_differ: bool) -> bool:
    """Whether some renumbering of the nodes (and of equal slots) turns the edges of a into those of b."""
    if len(a) != len(b):
        return False
    wanted = sorted(edges(b))
    for slots in [(0, 1)] if slots_differ else [(0, 1), (1, 0)]:
        for order in permutations(range(2, len(a) + 2)):
            name = dict(enumerate((*slots, *order)))
            if sorted((name[node], op, name[source]) for node, op, source in edges(a)) == wanted:
                return True
    return False


@pytest.mark.parametrize("slots_differ", [True, False])
def test_equal_forms_are_exactly_the_isomorphic_cells(slots_differ: bool) -> None:
    def form(cell: Genotype) -> str:
        inputs = [[plug for plug in cell_plugs if plug[0] in used_slots(cell)] for cell_plugs in plugged]
        return repr(canonical_form(cell, inputs))

    plugged = DIFFERENT if slots_differ else SAME
    cells = [cell for cell in map(remove_dead_nodes, small_cells()) if cell]
    groups = [list(group) for _, group in groupby(sorted(cells, key=form), key=form)]
    assert len(groups) > 20
    for group in groups:
        assert all(isomorphic(group[0], cell, slots_differ=slots_differ) for cell in group[1:])
    for one, other in combinations(groups, 2):
        assert not isomorphic(one[0], other[0], slots_differ=slots_differ)


def test_one_node_read_twice_is_not_two_equal_nodes() -> None:
    first = [[["conv_3x3", 0]], [["conv_3x3", 0]], [["skip", 2], ["max_pool_3x3", 3]]]
    other = [[["conv_3x3", 0]], [["conv_3x3", 0]], [["skip", 2], ["max_pool_3x3", 2]]]
    assert canonical_form(first, []) != canonical_form(other, [])


def test_dead_nodes_and_their_edges_are_dropped() -> None:
    nodes = [
        [["none", 0], ["none", 1]],
        [["skip", 2], ["none", 0]],
        [["conv_3x3", 3], ["skip", 1]],
        [["skip", 0], ["skip", 4]],
    ]
    assert remove_dead_nodes(nodes) == [[["skip", 1]], [["skip", 0], ["skip", 2]]]
    assert remove_dead_nodes([[["none", 0], ["none", 1]]]) == []


BOTH: Genotype = [[["conv_3x3", 0], ["conv_3x3", 1]]]
OLDER: Genotype = [[["conv_3x3", 0]]]
NEWER: Genotype = [[["conv_3x3", 1]]]


def chain(cells: int, normal: Genotype, reduce: Genotype) -> list[PlacedCell]:
    return place_cells(cells, genotypes={"normal": normal, "reduce": reduce}, stages=STAGES)


@pytest.mark.parametrize(
    ("cells", "stages", "kinds"),
    [
        (2, (0, 1, 1), "RR"),
        (3, (1, 1, 1), "NRR"),
        (4, (1, 1, 2), "NRRN"),
        (5, (1, 2, 2), "NRNRN"),
        (6, (2, 2, 2), "NNRNRN"),
        (8, (2, 3, 3), "NNRNNRNN"),
        (20, (6, 7, 7), "NNNNNN" + "R" + "NNNNNN" + "R" + "NNNNNN"),  # the layout of DARTS' CIFAR net
    ],
)
def test_reductions_are_at_one_and_two_thirds(cells: int, stages: tuple[int, ...], kinds: str) -> None:
    found = chain(cells, BOTH, BOTH)
    assert tuple(sum(cell.stage == stage for cell in found) for stage in STAGES) == stages
    assert "".join(cell.kind[0].upper() for cell in found) == kinds


def test_the_older_map_has_stride_two_right_after_a_reduction_only() -> None:
    inputs = [cell.inputs for cell in chain(5, BOTH, BOTH)]  # N R N R N
    assert inputs == [
        [[0, 0, 1], [1, 0, 1]],
        [[0, 0, 1], [1, 1, 1]],
        [[0, 1, 2], [1, 2, 1]],
        [[0, 2, 1], [1, 3, 1]],
        [[0, 3, 2], [1, 4, 1]],
    ]


def test_unread_cells_are_dropped() -> None:
    assert [(cell.stage, cell.kind) for cell in chain(5, OLDER, BOTH)] == [
        ("stage1", "normal"),
        ("stage2", "normal"),
        ("stage3", "normal"),
    ]
    assert [cell.inputs for cell in chain(5, OLDER, BOTH)] == [[[0, 0, 1]], [[0, 1, 2]], [[0, 2, 2]]]
    assert [cell.kind for cell in chain(3, BOTH, OLDER)] == ["normal", "reduce"]


def test_a_read_cell_without_a_live_node_disconnects_the_network() -> None:
    with pytest.raises(DisconnectedError, match="a normal cell needs a path from its inputs, but has no living node"):
        chain(4, [], BOTH)
    with pytest.raises(DisconnectedError, match="a reduce cell needs a path"):
        chain(4, BOTH, [])
    assert [cell.kind for cell in chain(2, [], BOTH)] == ["reduce", "reduce"]
    assert [cell.kind for cell in chain(5, OLDER, [])] == ["normal"] * 3
