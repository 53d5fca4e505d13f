"""Cells as plain lists: which nodes live, which cells live, and the one form that all equal nets share.

A genotype is a list of nodes; a node is a list of one or two edges `[op, source]`. Sources 0 and 1 are the cell's two
slots (the older and the newer map), 2, 3, ... are nodes before. A node without any path from the slots is dead and
dropped, and so is every edge from it; a cell is dead when no living cell reads it.

Renaming nodes, exchanging the edges of a node, and exchanging the slots together with what is plugged into them change
nothing but names, and `canonical` picks the smallest of these forms, node by node. Where several nodes could come next
it tries each, because sorting nodes by what they compute would confuse two equal nodes with one node read twice.
"""

from collections.abc import Iterator, Mapping
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
    frozen = tuple(tuple((str(op), int(source)) for op, source in node) for node in genotype)
    form, plugged = min(_forms(frozen, plugs))
    return [[list(edge) for edge in node] for node in form], plugged


def _forms(genotype: Frozen, plugs: list[list[Plug]]) -> Iterator[tuple[Frozen, list[list[Plug]]]]:
    """The forms with the smallest genotype for either order of the slots; the plugs depend on that order alone."""
    for slots in permutations(SLOTS):
        plugged = [sorted([slots[slot], source, stride] for slot, source, stride in cell) for cell in plugs]
        yield _smallest(genotype, slots), plugged


@lru_cache(maxsize=100_000)
def _smallest(genotype: Frozen, slots: tuple[int, ...]) -> Frozen:
    """The smallest of all orders of the nodes, where slot i is called `slots[i]`."""
    return min(_orders(genotype, tuple(range(len(genotype))), dict(zip(SLOTS, slots, strict=True))))


def _orders(genotype: Frozen, left: tuple[int, ...], number: dict[int, int]) -> Iterator[Frozen]:
    """The nodes that are left, renamed and in the smallest orders: the first node decides, and of equals each is tried.

    Any node whose sources have their number may come next, so nothing that is tried ends in a dead end.
    """
    if not left:
        yield ()
        return
    ready = [
        (tuple(sorted(((op, number[s]) for op, s in genotype[node]), key=_edge_order)), node)
        for node in left
        if all(source in number for _, source in genotype[node])
    ]
    smallest = min(renamed for renamed, _ in ready)
    for renamed, node in ready:
        if renamed == smallest:
            rest = tuple(other for other in left if other != node)
            for tail in _orders(genotype, rest, {**number, node + 2: len(number)}):
                yield (renamed, *tail)


def _edge_order(edge: tuple[str, int]) -> tuple[int, str]:
    return edge[1], edge[0]
