"""Genotypes, cells as plain lists: removal of dead nodes and cells, and the canonical form of equal networks.

A genotype is a list of nodes; a node is a list of one or two edges `[op, source]`. Sources 0 and 1 are the cell's two
slots (the older and the newer map), and 2, 3, ... are earlier nodes. A node without a path from the slots is dead, and
is dropped with every edge from it; a cell is dead when no live cell reads it.

Three changes leave the network the same: renumbering nodes, exchanging the edges of a node, and exchanging the slots
together with their inputs. `canonical_form` returns the smallest of these forms, node by node. Where several nodes
could come next it tries each. Sorting nodes by what they compute would not do: it confuses two equal nodes with one
node that is read twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

from search_spaces._base import DisconnectedError
from search_spaces._ops import NONE_OP

Edge = list[str | int]
Node = list[Edge]
Genotype = list[Node]
FrozenGenotype = tuple[tuple[tuple[str, int], ...], ...]
"""A genotype that can be hashed."""
CellInput = list[int]
"""[slot, source, stride]: source 0 is the stem and i the i-th live cell; the stride is that of the 1x1 convolution."""
FrozenCellInputs = tuple[tuple[tuple[int, ...], ...], ...]
"""The inputs of some cells, hashable."""

SLOTS = (0, 1)


@dataclass(kw_only=True)
class PlacedCell:
    """One live cell: its stage, its kind ("normal" or "reduce") and the inputs of the slots that it reads."""

    stage: str
    kind: str
    inputs: list[CellInput]


def remove_dead_nodes(nodes: Genotype) -> Genotype:
    """The genotype without dead nodes, dead edges and "none", its nodes renumbered. May be empty."""
    number = {slot: slot for slot in SLOTS}
    kept: Genotype = []
    for i, node in enumerate(nodes):
        edges: Node = [[op, number[int(s)]] for op, s in node if op != NONE_OP and int(s) in number]
        if edges:
            number[i + 2] = len(kept) + 2
            kept.append(edges)
    return kept


def used_slots(genotype: Genotype) -> tuple[int, ...]:
    """The slots that some edge reads, ascending."""
    return tuple(slot for slot in SLOTS if any(source == slot for node in genotype for _, source in node))


def reduction_positions(cells: int) -> tuple[int, int]:
    """Positions of the two reduction cells, at one and two thirds as in DARTS."""
    return cells // 3, 2 * cells // 3


def place_cells(cells: int, *, genotypes: Mapping[str, Genotype], stages: tuple[str, ...]) -> list[PlacedCell]:
    """The live cells of a chain of `cells`, in order; each reads the two outputs before it.

    Raises:
        DisconnectedError: a cell that is read has no live node.
    """
    slots = tuple(sorted((kind, used_slots(genotype)) for kind, genotype in genotypes.items()))
    return [
        PlacedCell(stage=stages[halvings], kind=kind, inputs=[list(each) for each in inputs])
        for halvings, kind, inputs in _chain(cells, slots)
    ]


@lru_cache(maxsize=10_000)
def _chain(
    cells: int, slots: tuple[tuple[str, tuple[int, ...]], ...]
) -> tuple[tuple[int, str, tuple[tuple[int, int, int], ...]], ...]:
    """Of each live cell: reductions up to it, its kind and its inputs; `slots` are those that each kind reads."""
    read = dict(slots)
    halvings = [sum(r <= position for r in reduction_positions(cells)) for position in range(cells)]
    kinds = ["reduce" if position in reduction_positions(cells) else "normal" for position in range(cells)]
    alive: dict[int, list[tuple[int, int]]] = {}  # position -> [(slot, position it reads)]
    wanted = {cells - 1}
    # Backwards from the last cell, so each position is decided after all its readers.
    for position in range(cells - 1, -1, -1):
        if position in wanted:
            if not read[kinds[position]]:
                raise DisconnectedError(
                    f"a {kinds[position]} cell needs a path from its inputs, but has no living node"
                )
            alive[position] = [(slot, max(-1, position - 2 + slot)) for slot in read[kinds[position]]]
            wanted |= {source for _, source in alive[position]}
    index = {-1: 0} | {position: i + 1 for i, position in enumerate(sorted(alive))}

    def stride(position: int, source: int) -> int:
        before = halvings[position - 1] if position else 0
        return 1 + before - (halvings[source] if source >= 0 else 0)

    return tuple(
        (
            halvings[position],
            kinds[position],
            tuple((slot, index[source], stride(position, source)) for slot, source in alive[position]),
        )
        for position in sorted(alive)
    )


def canonical_form(genotype: Genotype, inputs: list[list[CellInput]]) -> tuple[Genotype, list[list[CellInput]]]:
    """The smallest form of a live genotype, together with the inputs of all cells that use it."""
    frozen = tuple([tuple([(str(op), int(source)) for op, source in node]) for node in genotype])
    form, reordered = _canonical_form(frozen, tuple([tuple([tuple(each) for each in cell]) for cell in inputs]))
    return [[[*edge] for edge in node] for node in form], [[[*each] for each in cell] for cell in reordered]


@lru_cache(maxsize=100_000)
def _canonical_form(genotype: FrozenGenotype, inputs: FrozenCellInputs) -> tuple[FrozenGenotype, FrozenCellInputs]:
    """The smaller of the forms for both orders of the slots; the inputs depend on that order alone."""
    return min(
        (
            _smallest_form(genotype, slots),
            tuple([tuple(sorted([(slots[slot], source, stride) for slot, source, stride in cell])) for cell in inputs]),
        )
        for slots in permutations(SLOTS)
    )


@lru_cache(maxsize=100_000)
def _smallest_form(genotype: FrozenGenotype, slots: tuple[int, ...]) -> FrozenGenotype:
    """The smallest form over all orders of the nodes, with slot i renumbered to `slots[i]`."""
    return _smallest_order(genotype, tuple(range(len(genotype))), dict(zip(SLOTS, slots, strict=True)))


def _smallest_order(genotype: FrozenGenotype, left: tuple[int, ...], number: dict[int, int]) -> FrozenGenotype:
    """The remaining nodes, renumbered and in the lexicographically smallest order; of equal first nodes each is tried.

    Any node whose sources are numbered may come next, so no branch ends in a dead end.
    """
    form, number = [], dict(number)
    while left:
        ready = [
            (_renumbered(genotype[node], number), node)
            for node in left
            if all(source in number for _, source in genotype[node])
        ]
        smallest = min(ready)[0]
        equals = [node for renamed, node in ready if renamed == smallest]
        form.append(smallest)
        if len(equals) > 1:
            tails = (
                _smallest_order(
                    genotype, tuple(other for other in left if other != node), {**number, node + 2: len(number)}
                )
                for node in equals
            )
            return (*form, *min(tails))
        number[equals[0] + 2] = len(number)
        left = tuple(other for other in left if other != equals[0])
    return tuple(form)


def _renumbered(node: tuple[tuple[str, int], ...], number: Mapping[int, int]) -> tuple[tuple[str, int], ...]:
    """The edges of a node with their sources renumbered, in the order of the sources."""
    edges = [(number[source], op) for op, source in node]
    if len(edges) > 1:
        edges.sort()
    return tuple([(op, source) for source, op in edges])
