"""Where candidates come from: children of the archive, strangers, and points far from all that was asked."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from nas.searcher.acquisition.encoding import Codes, GeneEncoding

Floats = npt.NDArray[np.float64]

CROSSOVER_RATE = 0.3
"""Share of the children with two parents."""
MUTATION_COUNTS = (1, 2, 3)
"""How many genes of a child differ from its parents', equally likely."""
MIN_OPTIONS_FOR_NEIGHBOURS = 7
"""From so many options on, half of the changes of a gene go to a neighbour."""


def offspring(
    parents: Codes, n: int, encoding: GeneEncoding, is_free: npt.NDArray[np.bool_], rng: np.random.Generator
) -> Codes:
    """Children [n, g] of parents [p, g]; genes that are not `is_free` [g] are never changed by mutation."""
    sizes = encoding.n_options
    first, second = (parents[rng.integers(len(parents), size=n)] for _ in range(2))
    crossed = (rng.random(n) < CROSSOVER_RATE)[:, None] & (rng.random(first.shape) < 0.5)
    children = np.where(crossed, second, first)
    positions = np.flatnonzero(is_free & (sizes > 1))
    count = rng.choice(MUTATION_COUNTS, size=n)
    order = rng.random((n, len(positions))).argsort(axis=1).argsort(axis=1)
    changed = np.zeros(children.shape, dtype=bool)
    changed[:, positions] = order < count[:, None]
    other = (children + 1 + rng.integers(0, np.maximum(sizes - 1, 1), size=children.shape)) % sizes
    step = children + rng.choice([-1, 1], size=children.shape)
    near = (rng.random(children.shape) < 0.5) & (step >= 0) & (step < sizes) & (sizes >= MIN_OPTIONS_FOR_NEIGHBOURS)
    return np.where(changed, np.where(near, step, other), children)


def local_search(
    codes: Codes, scores: Floats, children_of: Callable[[Codes], tuple[Codes, Floats]], *, rounds: int = 15
) -> Codes:
    """The codes [g] of the largest value, 1 or more rows, and then of the best that its children reach.

    Args:
        codes: [n, g].
        scores: [n], more is better.
        children_of: children of one parent [1, g] with their values.
        rounds: generations.
    """
    best: Codes = codes[int(np.argmax(scores))]
    top = float(scores.max())
    for _ in range(rounds):
        children, values = children_of(best[None])
        if len(children) and values.max() > top:
            best, top = children[int(np.argmax(values))], float(values.max())
    return best


def farthest(codes: Codes, evaluated: Codes) -> int:
    """Which row of codes [n, g] differs most from the nearest of those asked [k, g]; ties by the mean difference."""
    if not len(evaluated):
        return 0
    apart = (codes[:, None, :] != evaluated[None, :, :]).sum(axis=2)
    return int(np.argmax(apart.min(axis=1) + apart.mean(axis=1) / (1 + codes.shape[1])))


def van_der_corput(n: int) -> float:
    """The n-th number of van der Corput's sequence in base 2, 0..1: 0, 1/2, 1/4, 3/4, 1/8, ..."""
    value, scale = 0.0, 0.5
    while n:
        value, n, scale = value + scale * (n & 1), n >> 1, scale / 2
    return value
