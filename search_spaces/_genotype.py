"""Cells as plain lists: which nodes live, which cells live, and the one form that all equal nets share.

A genotype is a list of nodes; a node is a list of one or two edges `[op, source]`. Sources 0 and 1 are the cell's two
slots (the older and the newer map), 2, 3, ... are nodes before. A node without any path from the slots is dead and
dropped, and so is every edge from it; a cell is dead when no living cell reads it.

Renaming nodes, exchanging the edges of a node, and exchanging the slots together with what is plugged into them change
nothing but names, and `canonical` picks the smallest of these forms, node by node. Where several nodes could come next
it tries each, because sorting nodes by what they compute would confuse two equal nodes with one node read twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

from search_spaces._base import DisconnectedError
from search_spaces._ops import NONE

Edge = list[str | int]
Node = list[Edge]
Genotype = list[Node]
Frozen = tuple[tuple[tuple[str, int], ...], ...]
"""A genotype that can be hashed."""
Plug = list[int]
"""[slot, source, stride]: source 0 is the stem, i the i-th living cell; stride of the 1x1 convolution in between."""
Plugs = tuple[tuple[tuple[int, ...], ...], ...]
"""The plugs of some cells, hashable."""

SLOTS = (0, 1)


@dataclass(kw_only=True)
class Place:
    """One living cell: its stage, its kind ("normal" or "reduce") and what is plugged into the slots it reads."""

    stage: str
    kind: str
    plugs: list[Plug]


def living(nodes: Genotype) -> Genotype:
    """The genotype without dead nodes, dead edges and "none", nodes numbered anew. May be empty."""
    number = {slot: slot for slot in SLOTS}
    kept: Genotype = []
    for i, node in enumerate(nodes):
        edges: Node = [[op, number[int(s)]] for op, s in node if op != NONE and int(s) in number]
        if edges:
            number[i + 2] = len(kept) + 2
            kept.append(edges)
    return kept


def slots_read(genotype: Genotype) -> tuple[int, ...]:
    """The slots that some edge reads, ascending."""
    return tuple(slot for slot in SLOTS if any(source == slot for node in genotype for _, source in node))


def reductions(cells: int) -> tuple[int, int]:
    """Positions of the two reduction cells, at one and two thirds as in DARTS."""
    return cells // 3, 2 * cells // 3


def places(cells: int, *, genotypes: Mapping[str, Genotype], stages: tuple[str, ...]) -> list[Place]:
    """The living cells of a chain of `cells`, in order, each reading the two outputs before it.

    Raises:
        DisconnectedError: a cell that is read has no living node.
    """
    slots = tuple(sorted((kind, slots_read(genotype)) for kind, genotype in genotypes.items()))
    return [
        Place(stage=stages[halvings], kind=kind, plugs=[list(plug) for plug in plugs])
        for halvings, kind, plugs in _chain(cells, slots)
    ]


@lru_cache(maxsize=10_000)
def _chain(
    cells: int, slots: tuple[tuple[str, tuple[int, ...]], ...]
) -> tuple[tuple[int, str, tuple[tuple[int, int, int], ...]], ...]:
    """Halvings before each living cell, its kind and its plugs; `slots` are those that each kind reads."""
    read = dict(slots)
    halvings = [sum(r <= position for r in reductions(cells)) for position in range(cells)]
    kinds = ["reduce" if position in reductions(cells) else "normal" for position in range(cells)]
    alive: dict[int, list[tuple[int, int]]] = {}  # position -> [(slot, position it reads)]
    wanted = {cells - 1}
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


def canonical(genotype: Genotype, plugs: list[list[Plug]]) -> tuple[Genotype, list[list[Plug]]]:
    """The smallest form of a living genotype together with the plugs of all cells that use it."""
    frozen = tuple([tuple([(str(op), int(source)) for op, source in node]) for node in genotype])
    form, plugged = _canonical(frozen, tuple([tuple([tuple(plug) for plug in cell]) for cell in plugs]))
    return [[[*edge] for edge in node] for node in form], [[[*plug] for plug in cell] for cell in plugged]


@lru_cache(maxsize=100_000)
def _canonical(genotype: Frozen, plugs: Plugs) -> tuple[Frozen, Plugs]:
    """The smaller of the forms for either order of the slots; the plugs depend on that order alone."""
    return min(
        (
            _smallest(genotype, slots),
            tuple([tuple(sorted([(slots[slot], source, stride) for slot, source, stride in cell])) for cell in plugs]),
        )
        for slots in permutations(SLOTS)
    )


@lru_cache(maxsize=100_000)
def _smallest(genotype: Frozen, slots: tuple[int, ...]) -> Frozen:
    """The smallest of all orders of the nodes, where slot i is called `slots[i]`."""
    return _ordered(genotype, tuple(range(len(genotype))), dict(zip(SLOTS, slots, strict=True)))


def _ordered(genotype: Frozen, left: tuple[int, ...], number: dict[int, int]) -> Frozen:
    """The nodes that are left, renamed and in the smallest order: the first node decides, and of equals each is tried.

    Any node whose sources have their number may come next, so nothing that is tried ends in a dead end.
    """
    form, number = [], dict(number)
    while left:
        ready = [
            (_renamed(genotype[node], number), node)
            for node in left
            if all(source in number for _, source in genotype[node])
        ]
        smallest = min(ready)[0]
        equals = [node for renamed, node in ready if renamed == smallest]
        form.append(smallest)
        if len(equals) > 1:
            tails = (
                _ordered(genotype, tuple(other for other in left if other != node), {**number, node + 2: len(number)})
                for node in equals
            )
            return (*form, *min(tails))
        number[equals[0] + 2] = len(number)
        left = tuple(other for other in left if other != equals[0])
    return tuple(form)


def _renamed(node: tuple[tuple[str, int], ...], number: Mapping[int, int]) -> tuple[tuple[str, int], ...]:
    """The node's edges from sources by their number, in the order of these."""
    edges = [(number[source], op) for op, source in node]
    if len(edges) > 1:
        edges.sort()
    return tuple([(op, source) for source, op in edges])
