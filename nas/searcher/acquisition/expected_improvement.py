"""What a candidate is worth: the hypervolume it may be expected to add, times how likely it is feasible.

Expected hypervolume improvement (Emmerich, Giannakoglou & Naujoks 2006, https://doi.org/10.1109/TEVC.2005.859463), here
the mean over a few evenly spread quantiles of the guessed objectives; known ones are exact. More is better everywhere.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nas.intervals import normal_cdf, normal_quantile
from nas.pareto import non_dominated, spread
from nas.searcher.acquisition.gaussian_process import Guess, learn
from nas.searcher.acquisition.hypervolume_improvement import free_boxes, gains
from nas.searcher.acquisition.low_fidelity import Looks, stretched
from nas.searcher.acquisition.subsample import some

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

DRAWS = 8
MARGIN = 0.1
"""How far the reference point lies behind the worst values, in units of the values' range."""
FRONT = {1: 1, 2: 200, 3: 50}
"""Most members of the front that gains are computed against, by number of objectives; 16 with more."""
MOST_TOLD = 200
"""Trials that a guess of feasibility is learned from."""
LEAST_CHANCE, LEAST_DOUBT = 1e-3, 0.1
"""Of a guess of feasibility: smallest probability, and smallest standard deviation."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """What was asked.

    Attributes:
        cheap: [n, m] known objectives, NaN where unknown.
        genes: [n, d] features of the genes, each 0..1.
        described: [n, e] further features, of any size.
        values: [n, m], NaN where unknown.
        done: [n], whether `values` holds.
        broken: [n], whether it turned out infeasible.
        elsewhere: [n], whether it was evaluated in another search: what its values tell is learned, but it is on no
            front.
        looks: [n, m] values at a first look, NaN without one.
        stopped: [n], whether that look was all. None of the four means that it is still running.
    """

    cheap: Floats
    genes: Floats
    described: Floats
    values: Floats
    done: Mask
    broken: Mask
    elsewhere: Mask
    looks: Floats
    stopped: Mask


class Worth:
    """Judges candidates by what was learned from examples, of which two or more are done."""

    def __init__(self, examples: Examples) -> None:
        e = self._examples = examples
        self._objectives = e.values.shape[1]
        rows = np.flatnonzero(e.done)
        self._unknown = np.flatnonzero(~np.isfinite(e.cheap[rows]).all(axis=0))
        self._known = np.setdiff1d(np.arange(self._objectives), self._unknown)
        self._scale_known = _scales(e.cheap[rows][:, self._known], logarithmic=True)
        self._scale_described = _scales(e.described[rows], logarithmic=False)
        x = self._inputs(e.cheap, e.genes, e.described)
        self._looks = Looks(x, e.looks[:, self._unknown])
        x = np.concatenate([x, self._looks.seen], axis=1)
        self._guessers = [self._guesser(x, int(j)) for j in self._unknown]
        self._chance: Callable[[Floats], Guess] | None = None
        if e.broken.any():
            told = some(np.flatnonzero(e.done | e.broken | e.stopped), MOST_TOLD)
            self._chance = learn(x[told], (~e.broken[told]).astype(np.float64))
        self._set_front(x)

    def __call__(self, cheap: Floats, genes: Floats, described: Floats, *, doubt: Floats) -> Floats:
        """Worth [k] of candidates, 0 or more; the arguments have k rows of what `Examples` has n rows of.

        `doubt` [k, m] holds standard deviations of the logarithm of known objectives.
        """
        x = self._inputs(cheap, genes, described)
        x = np.concatenate([x, self._looks(x)], axis=1)
        draws = self._draws(cheap, x, doubt)
        gain = gains((draws - self._reference) / self._scale, self._boxes).mean(axis=0)
        if self._chance is not None:
            found = self._chance(x)
            normal = (found.mean - 0.5) / np.sqrt(found.deviation**2 + LEAST_DOUBT**2)
            gain = gain * np.maximum(normal_cdf(normal), LEAST_CHANCE)
        return np.asarray(gain)

    def _guesser(self, x: Floats, objective: int) -> Callable[[Floats], Callable[[float], Floats]]:
        e = self._examples
        values = e.values[:, objective]
        rows = e.done | (e.elsewhere & np.isfinite(values))
        return _stretched(x[rows], values[rows])

    def _set_front(self, x: Floats) -> None:
        e, m = self._examples, self._objectives
        values = e.values[e.done]
        points = values
        running = ~(e.done | e.broken | e.elsewhere | e.stopped)
        if running.any():
            points = np.concatenate([points, self._means(e.cheap[running], x[running])])
        elsewhere = np.where(np.isnan(e.values), e.cheap, e.values)[e.elsewhere]
        range_of = np.concatenate([values, elsewhere[np.isfinite(elsewhere).all(axis=1)]])
        low, high = range_of.min(axis=0), range_of.max(axis=0)
        front = points[non_dominated(points, [True] * m)]
        self._scale = np.maximum(high - low, 1e-12 * np.maximum(1.0, np.abs(high)))
        self._reference = low - MARGIN * self._scale
        limit = FRONT.get(m, 16)
        if len(front) > limit:
            front = front[spread(front, [True] * m, limit)]
        self._boxes = free_boxes((front - self._reference) / self._scale, np.zeros(m))

    def _means(self, cheap: Floats, x: Floats) -> Floats:
        means = cheap.copy()
        for j, guesser in zip(self._unknown, self._guessers, strict=True):
            means[:, j] = guesser(x)(0.0)
        return means

    def _draws(self, cheap: Floats, x: Floats, doubt: Floats) -> Floats:
        """Draws [s, k, m] of the objectives."""
        draws = np.repeat(cheap[None], DRAWS, axis=0)
        quantiles = _quantiles(self._objectives)
        for k, j in enumerate(self._known, start=len(self._unknown)):
            draws[:, :, j] *= np.exp(quantiles[:, k, None] * doubt[None, :, j])
        for k, (j, guesser) in enumerate(zip(self._unknown, self._guessers, strict=True)):
            value = guesser(x)
            for s in range(DRAWS):
                draws[s, :, j] = value(float(quantiles[s, k]))
        return draws

    def _inputs(self, cheap: Floats, genes: Floats, described: Floats) -> Floats:
        """All that is known of a candidate, on one scale."""
        known = self._scale_known(cheap[:, self._known])
        return np.concatenate([genes, np.nan_to_num(self._scale_described(described)), np.nan_to_num(known)], axis=1)


def _stretched(x: Floats, values: Floats) -> Callable[[Floats], Callable[[float], Floats]]:
    """A guesser of values by how they lie on a logarithmic scale that stretches the good end.

    Returns:
        Features to a function that gives the value at so many standard deviations above the mean.
    """
    stretch, top = stretched(values)
    guess = learn(x, stretch)

    def at(asked: Floats) -> Callable[[float], Floats]:
        found = guess(asked)
        return lambda deviations: top - np.exp(np.minimum(-found.mean - deviations * found.deviation, 300.0))

    return at


def _scales(examples: Floats, *, logarithmic: bool) -> Callable[[Floats], Floats]:
    """A scaling of columns to mean 0 and deviation 1/2 of the examples; of logarithms where all have one sign."""
    signs = np.where((examples < 0).all(axis=0), -1.0, 1.0)
    logs = (examples * signs > 0).all(axis=0) & logarithmic

    def raw(v: Floats) -> Floats:
        return np.where(logs, np.log(np.maximum(v * signs, 1e-300)), v) if logs.any() else v

    centre, spread = raw(examples).mean(axis=0), raw(examples).std(axis=0)
    scale = 2 * np.where(spread > 1e-12, spread, 1.0)
    return lambda v: (raw(v) - centre) / scale


def _quantiles(n: int) -> Floats:
    """Draws [s, n] of standard normals, evenly spread in each column; columns are shuffled against each other."""
    line = np.array([normal_quantile((i + 0.5) / DRAWS) for i in range(DRAWS)])
    rng = np.random.default_rng(0)
    return np.stack([line, *(rng.permutation(line) for _ in range(n - 1))], axis=1)
