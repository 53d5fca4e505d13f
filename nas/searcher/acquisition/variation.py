"""Variation of codes: offspring by mutation and crossover, local search, and space-filling points."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from nas.searcher.acquisition.encoding import Codes, GeneEncoding

Floats = npt.NDArray[np.float64]

CROSSOVER_RATE = 0.3
"""Share of the children with two parents."""
MUTATION_COUNTS = (1, 2, 3)
"""Numbers of genes in which a child differs from its parents, equally likely."""
MIN_OPTIONS_FOR_NEIGHBOURS = 7
"""Options from which on half of the mutations of a gene go to a neighbouring option."""


def offspring(
    parents: Codes, n: int, encoding: GeneEncoding, is_free: npt.NDArray[np.bool_], rng: np.random.Generator
) -> Codes:
    """Children by uniform crossover and mutation.

    Args:
        parents: [p, g].
        n: number of children.
        encoding: gives the options of each gene.
        is_free: [g], whether mutation may change the gene.
        rng: source of all randomness; the order of its calls is part of the sampler's reproducibility.

    Returns:
        [n, g], with possible duplicates.
    """
    sizes = encoding.n_options
    first, second = (parents[rng.integers(len(parents), size=n)] for _ in range(2))
    crossed = (rng.random(n) < CROSSOVER_RATE)[:, None] & (rng.random(first.shape) < 0.5)
    children = np.where(crossed, second, first)
    positions = np.flatnonzero(is_free & (sizes > 1))
    count = rng.choice(MUTATION_COUNTS, size=n)
    # The double argsort gives each gene a rank in a random order, so the ranks below `count` are a random subset.
    order = rng.random((n, len(positions))).argsort(axis=1).argsort(axis=1)
    changed = np.zeros(children.shape, dtype=bool)
    changed[:, positions] = order < count[:, None]
    # An offset of 1 .. size - 1, modulo the size, reaches every other option and never the same one.
    other = (children + 1 + rng.integers(0, np.maximum(sizes - 1, 1), size=children.shape)) % sizes
    step = children + rng.choice([-1, 1], size=children.shape)
    near = (rng.random(children.shape) < 0.5) & (step >= 0) & (step < sizes) & (sizes >= MIN_OPTIONS_FOR_NEIGHBOURS)
    return np.where(changed, np.where(near, step, other), children)


def local_search(
    codes: Codes, scores: Floats, children_of: Callable[[Codes], tuple[Codes, Floats]], *, rounds: int = 15
) -> Codes:
    """Hill climbing from the row with the largest score; a round without improvement keeps the best and tries again.

    Args:
        codes: [n, g], n at least 1.
        scores: [n], maximised.
        children_of: one parent [1, g] to children with their scores.
        rounds: number of generations.

    Returns:
        The codes [g] with the largest score.
    """
    best: Codes = codes[int(np.argmax(scores))]
    top = float(scores.max())
    for _ in range(rounds):
        children, values = children_of(best[None])
        if len(children) and values.max() > top:
            best, top = children[int(np.argmax(values))], float(values.max())
    return best


def farthest(codes: Codes, evaluated: Codes) -> int:
    """The row with the largest Hamming distance to its nearest evaluated point.

    Args:
        codes: [n, g], n at least 1.
        evaluated: [k, g].

    Returns:
        The row of `codes`. Ties go to the larger mean distance, then to the first; without evaluated points it is 0.
    """
    if not len(evaluated):
        return 0
    distances = (codes[:, None, :] != evaluated[None, :, :]).sum(axis=2)
    # The mean distance is at most g, so divided by g + 1 it breaks ties between integers and does nothing else.
    return int(np.argmax(distances.min(axis=1) + distances.mean(axis=1) / (1 + codes.shape[1])))


def van_der_corput(n: int) -> float:
    """The n-th number of van der Corput's low-discrepancy sequence in base 2, in [0, 1): 0, 1/2, 1/4, 3/4, 1/8, ..."""
    value, scale = 0.0, 0.5
    while n:
        value, n, scale = value + scale * (n & 1), n >> 1, scale / 2
    return value
