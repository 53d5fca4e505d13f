"""Initial picks of a search: networks known to be good, and larger ones that use the latency that the user allows.

Uniform draws of a space lie where most of its networks are: on a Jetson 99 % of the plain space takes less than 1.6 ms,
so a limit of 5 ms would never be used. Where a limit is given, the search therefore begins with a ladder: the known
networks are grown, all numbers of layers and channels together as in compound scaling
(https://arxiv.org/abs/1905.11946). Rungs between the fastest known network and the limit lie at equal factors, and each
that no known network is near to gets the grown one of the nearest predicted latency, or a uniform draw where none is
near.
"""

import itertools
import math
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from hw_profiles._base import HardwareProfile
from nas.compression.gene_provider import GeneProvider
from nas.searcher.acquisition.candidate_features import macs
from search_spaces._base import Choice, DisconnectedError, SearchSpace, Value
from search_spaces._ends import SHARED_CHOICES
from search_spaces._work import sum_workloads

Pick = dict[str, Value]

MAX_RUNGS = 8
"""Rungs between the fastest known network and the limit, at most."""
MIN_STEP = 1.4
"""Factor between two rungs, at least: nearer networks say the same."""
TOP_SHARE = 0.9
"""Latency of the last rung, as a share of the limit, which leaves room for the error of a prediction."""
FIRST_RUNG_SHARE = 0.05
"""Share of the search, at most, for the first rung of a grown network."""
TRAINED_MACS_PER_S = 2e10
"""Multiply-accumulates of the forward pass, for one image, that one core trains in a second: 550 images of 36 million
each, or 310 of 78 million, on the core that RESULTS.md was measured on."""
N_DRAWS = 400
"""Grown networks, and uniform draws, that the rungs choose from; a prediction takes 0.3 ms."""


def known_picks(
    space: SearchSpace,
    providers: Sequence[GeneProvider],
    profile: HardwareProfile,
    *,
    is_affordable: Callable[[Pick], bool] | None = None,
) -> list[Pick]:
    """Each known good network of the space with each combination of the initial settings of the other genes.

    Args:
        space: of the architectures.
        providers: of the other genes.
        profile: of the target.
        is_affordable: whether a search has the time to train a large network; None leaves all of them out, as is right
            without a limit on the latency: those beyond it end before any training.
    """
    settings = list(itertools.product(*(member.initial_settings(space.stages, profile) for member in providers)))
    groups = [space.initial_configurations(channel_multiple=profile.channel_multiple)]
    if is_affordable is not None:
        large = space.large_configurations(channel_multiple=profile.channel_multiple)
        groups.append(tuple(filter(is_affordable, large)))
    return [dict(ChainMap(each, *setting)) for group in groups for setting in settings for each in group]


def covering_picks(
    known: Sequence[Pick],
    genes: Sequence[Choice],
    *,
    neutral: Mapping[str, Value],
    limit_ms: float,
    latency_ms: Callable[[Sequence[Pick]], npt.ArrayLike],
    is_affordable: Callable[[Pick], bool],
    seed: int,
    max_picks: int = MAX_RUNGS,
) -> list[Pick]:
    """Larger networks whose predicted latencies cover the range up to a limit, the fastest first.

    Args:
        known: picks to grow, with all genes of the search.
        genes: of the space; those that all spaces share, such as the input size, stay as they are in a grown network.
        neutral: values of the other genes that change nothing, which all these networks have.
        limit_ms: upper limit of the latency in ms.
        latency_ms: [n] predicted latencies of n picks in ms; NaN where there is no network.
        is_affordable: whether a search has the time to train a pick.
        seed: of the draw.
        max_picks: upper limit of their number; the slowest is kept.

    Returns:
        At most one pick for each rung, none above the limit; empty where the known networks cover the range.
    """
    seeds = [{**pick, **neutral} for pick in known if all(gene.name in pick for gene in genes)]
    if not seeds or not genes or not max_picks:
        return []
    rng = np.random.default_rng(seed)
    grown = grow(seeds, genes, n=N_DRAWS, rng=rng)
    pool = grown + [seeds[0] | _uniform(genes, rng) for _ in range(N_DRAWS)]
    before = [ms for ms in np.asarray(latency_ms(seeds), np.float64).tolist() if ms <= limit_ms]
    taken = np.asarray(latency_ms(pool), np.float64).tolist()
    within = [i for i, ms in enumerate(taken) if ms <= limit_ms and is_affordable(pool[i])]  # NaN is not within
    if not within:
        return []
    slowest = max(taken[i] for i in within)
    rungs, step = _uncovered_rungs(before or [min(taken[i] for i in within)], min(TOP_SHARE * limit_ms, slowest))
    chosen = [rungs[i] for i in np.unique(np.linspace(len(rungs) - 1, 0, min(max_picks, len(rungs))).astype(int))]

    def nearest(rung: float) -> int:
        distances = {i: abs(math.log(taken[i] / rung)) for i in within}
        near = [i for i in within if i < len(grown) and distances[i] <= step / 2]
        return min(near or within, key=distances.__getitem__)

    return [pool[i] for i in dict.fromkeys(map(nearest, chosen))]


def grow(known: Sequence[Pick], genes: Sequence[Choice], *, n: int, rng: np.random.Generator) -> list[Pick]:
    """Larger forms of picks: all numbers of layers and channels move about equally far towards the largest.

    Args:
        known: picks to grow, in turn.
        genes: of the space.
        n: draws; equal ones count once.
        rng: of the draws.
    """
    shared = {choice.name for choice in SHARED_CHOICES}
    ladders = {
        gene.name: gene.options
        for gene in genes
        if gene.name not in shared and len(gene.options) > 1 and all(isinstance(o, int) for o in gene.options)
    }
    if not ladders or not known:
        return []
    found: dict[tuple[Value, ...], Pick] = {}
    for i in range(n):
        pick, share = dict(known[i % len(known)]), rng.random()
        for name, options in ladders.items():
            first, last = options.index(pick[name]), len(options) - 1
            place = first + share * (last - first) + rng.uniform(-0.5, 0.5)
            pick[name] = options[min(last, max(first, round(place)))]
        found.setdefault(tuple(pick.values()), pick)
    return list(found.values())


def _uniform(genes: Sequence[Choice], rng: np.random.Generator) -> Pick:
    return {gene.name: gene.options[int(rng.integers(len(gene.options)))] for gene in genes}


def max_initial_macs(*, search_s: float, n_images: float, threads: int) -> float:
    """Multiply-accumulates for an image up to which a grown network trains in its share of the search, on a CPU.

    Args:
        search_s: seconds of the search.
        n_images: that a candidate sees up to its first rung.
        threads: of one worker.
    """
    return FIRST_RUNG_SHARE * search_s * threads * TRAINED_MACS_PER_S / n_images


def affordable(
    space: SearchSpace, *, input_shape: tuple[int, int, int], classes: int, max_macs: float
) -> Callable[[Pick], bool]:
    """A function that says whether the network of a pick has at most `max_macs` multiply-accumulates for an image."""

    def is_affordable(pick: Pick) -> bool:
        try:
            works = space.workload(space.decode(pick), input_shape=input_shape, classes=classes)
        except DisconnectedError:
            return False
        return macs(sum_workloads([*works.values()])) <= max_macs

    return is_affordable


def _uncovered_rungs(known_ms: Sequence[float], last_ms: float) -> tuple[list[float], float]:
    """Latencies at equal steps from the fastest known one up to the last that no known one is near to.

    Returns:
        The latencies, and the logarithm of the factor between two.
    """
    first_ms = min(known_ms)
    n = min(MAX_RUNGS, int(math.log(max(last_ms / first_ms, 1.0)) / math.log(MIN_STEP)))
    step = math.log(last_ms / first_ms) / max(n, 1)
    rungs = (first_ms * math.exp(step * k) for k in range(1, n + 1))
    return [rung for rung in rungs if all(abs(math.log(rung / ms)) > step / 2 for ms in known_ms)], step
