"""The screen: many children are made, each is judged by what is known and what is guessed of it, one is asked.

More is better in every objective here. What is asked follows from the history and the generator alone; what is kept
between calls only saves time.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.pareto import non_dominated
from nas.searcher.acquisition.encoding import Codes, Genes, as_bytes
from nas.searcher.acquisition.expected_improvement import Examples, Worth
from nas.searcher.acquisition.subsample import some
from nas.searcher.acquisition.variation import climb, farthest, level, offspring

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Picks = Sequence[Mapping[str, Any]]

ENUMERATE = 1000
"""Spaces with at most so many points are screened whole."""
LISTED = 20_000
"""Spaces with at most so many points are listed when children find nothing new."""
CHILDREN, STRANGERS, GRANDCHILDREN = 300, 80, 200
"""Children of the archive, points from the whole space, and children of the best `PARENTS` of both."""
PARENTS = 15
MOST_EXAMPLES, MOST_OTHERS = 300, 150
"""Finished trials that are learned from; those that broke a limit, and those that ended at a first look."""
LIKELY = 0.1
"""Chance to keep the limits from which a candidate is asked without being worth it by what is guessed."""
UNSCREENED = 4
"""Every so many trials a child of the archive is asked as it comes, which keeps the guesses honest."""


@dataclass(frozen=True, kw_only=True)
class History:
    """All that was asked so far, oldest first.

    Attributes:
        codes: [n, g].
        values: [n, m], more is better; NaN where unknown.
        done: [n], whether the values are those of a finished, feasible trial.
        broken: [n], whether it finished without being feasible.
        looks: [n, m] values at a first look, more is better; NaN without one.
        stopped: [n], whether that look was all. None of the three means that it is still running.
    """

    codes: Codes
    values: Floats
    done: Mask
    broken: Mask
    looks: Floats
    stopped: Mask

    def __len__(self) -> int:
        return len(self.codes)

    def archive(self) -> npt.NDArray[np.int64]:
        """Rows of the non-dominated among the done."""
        done = np.flatnonzero(self.done)
        values = self.values[done]
        return done[non_dominated(values, [True] * values.shape[1])]

    def thinned(self) -> "History":
        """What there is to learn from, to bound the time: the archive, the worst of each objective, all that is
        running, and of the rest half the newest, half spread over the others."""
        done, broken = np.flatnonzero(self.done), np.flatnonzero(self.broken)
        worst = done[self.values[done].argmin(axis=0)]
        running = np.flatnonzero(~(self.done | self.broken | self.stopped))
        parts = (self.archive(), worst, running, some(done, MOST_EXAMPLES), some(broken, MOST_OTHERS))
        rows = np.unique(np.concatenate([*parts, some(np.flatnonzero(self.stopped), MOST_OTHERS)]))
        return History(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """Codes [k, g] that other searches evaluated, and what their values and first looks tell [k, m], more is better;
    NaN where nothing."""

    codes: Codes
    values: Floats
    looks: Floats


@dataclass(frozen=True, kw_only=True)
class Knowledge:
    """What is known of picks without evaluating them; each function takes a list of picks.

    Attributes:
        cheap: values [n, m], more is better, NaN where unknown.
        doubt: [n, m] standard deviations of the logarithm of what is cheap.
        chance: [n] probability that the limits on what is cheap are kept.
        features: [n, d] numbers that describe the picks.
        allowed: [n] bool.
        identity: [n] hashable names; picks of one name count as duplicates.
    """

    cheap: Callable[[Picks], Floats]
    doubt: Callable[[Picks], Floats] | None = None
    chance: Callable[[Picks], Floats] | None = None
    features: Callable[[Picks], Floats] | None = None
    allowed: Callable[[Picks], Mask] | None = None
    identity: Callable[[Picks], Sequence[Any]] | None = None


@dataclass(frozen=True)
class Pool:
    """Candidates: codes [n, g], the picks they stand for, known objectives [n, m] (NaN where unknown) with the doubt
    in them [n, m], and the chance [n] that limits on them are kept."""

    codes: Codes
    picks: Picks
    cheap: Floats
    doubt: Floats
    chance: Floats

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: npt.NDArray[Any]) -> "Pool":
        rows = np.arange(len(self))[rows]
        picks = [self.picks[i] for i in rows]
        return Pool(self.codes[rows], picks, self.cheap[rows], self.doubt[rows], self.chance[rows])

    def __add__(self, more: "Pool") -> "Pool":
        arrays = ((getattr(self, name), getattr(more, name)) for name in ("cheap", "doubt", "chance"))
        codes = np.concatenate([self.codes, more.codes])
        return Pool(codes, [*self.picks, *more.picks], *(np.concatenate(both) for both in arrays))

    def likely(self) -> "Pool":
        """Those that may well keep the limits; if there are none, the likeliest."""
        return self[self.chance >= min(LIKELY, float(self.chance.max(initial=0.0)))]


class Screen:
    """Proposes codes from a history.

    Args:
        genes: the space.
        known: what needs no evaluation.
        history: what was asked.
        earlier: what was evaluated elsewhere.
        fixed: gene position to code, where a gene is not free.
        names: codes, as bytes, to the identities that were found before; those of the history are added.
        start: trials that spread out before anything is learned.
        effort: share of the usual number of candidates that are looked at.
        rng: all randomness.
    """

    def __init__(
        self, genes: Genes, known: Knowledge, history: History, *, earlier: Elsewhere | None = None,
        names: dict[bytes, Any] | None = None, fixed: Mapping[int, int], start: int, effort: float = 1.0,
        rng: np.random.Generator,
    ) -> None:  # fmt: skip
        self._genes, self._known, self._history, self._fixed = genes, known, history, fixed
        none = Elsewhere(codes=history.codes[:0], values=history.values[:0], looks=history.looks[:0])
        self._earlier = earlier or none
        self._start, self._rng, self._effort = start, rng, effort
        self._taken = set(self._remembered(history.codes, {} if names is None else names))

    def propose(self) -> Codes | None:
        """The codes [g] to ask next; None if every point has been asked or is not allowed."""
        if len(self._history) + len(self._earlier.codes) < self._start or self._history.done.sum() < 2:
            return self._spread_out()
        pool = self._fresh(self._candidates())
        if not len(pool):
            return None
        if len(self._history) % UNSCREENED == 0 and self._genes.total > ENUMERATE:
            return np.asarray(pool.likely().codes[0])
        judge = Worth(self._examples())
        worth = self._judged(judge, pool)
        if self._genes.total <= ENUMERATE:
            return self._best(pool, worth)
        best = pool.codes[np.argsort(-worth, kind="stable")[:PARENTS]]
        young = self._new(self._offspring(best, self._some(GRANDCHILDREN)))
        if not len(young):
            return self._best(pool, worth)
        return self._best(pool + young, np.concatenate([worth, self._judged(judge, young)]))

    def _judged(self, judge: Worth, pool: Pool) -> Floats:
        return pool.chance * judge(*self._described(pool), doubt=pool.doubt)

    def _best(self, pool: Pool, worth: Floats) -> Codes:
        """The codes [g] worth the most; if nothing promises a gain, the farthest from all that was asked."""
        if worth.max() > 0:
            return np.asarray(pool.codes[int(np.argmax(worth))])
        codes = pool.likely().codes
        return np.asarray(codes[farthest(codes, self._history.codes)])

    def _spread_out(self) -> Codes | None:
        """Far from all that was asked, at the next level of what is known; at first the ends of what is known."""
        whole = self._genes.total <= ENUMERATE
        pool = self._fresh(self._rng.permutation(self._genes.all()) if whole else self._random(self._some(CHILDREN)))
        if not len(pool):
            return None
        if pool.chance.max() < LIKELY:
            return climb(pool.codes, pool.chance, self._young_chance)
        pool = pool.likely()
        turn, codes = len(self._history), pool.codes
        known = np.flatnonzero(np.isfinite(pool.cheap).all(axis=0))
        if not len(known):
            return np.asarray(codes[farthest(codes, self._history.codes)])
        objective = int(known[turn % len(known)])
        values = pool.cheap[:, objective]
        if turn < len(known):
            return climb(codes, values, lambda parent: self._young(parent, objective))
        width = max(1, len(codes) // 10)
        first = int(level(turn // len(known)) * (len(codes) - width))
        codes = codes[np.argsort(values, kind="stable")[first : first + width]]
        return np.asarray(codes[farthest(codes, self._history.codes)])

    def _young(self, parent: Codes, objective: int) -> tuple[Codes, Floats]:
        young = self._new(self._offspring(parent, 60))
        return young.codes, young.cheap[:, objective]

    def _young_chance(self, parent: Codes) -> tuple[Codes, Floats]:
        young = self._new(self._offspring(parent, 60))
        return young.codes, young.chance

    def _candidates(self) -> Codes:
        if self._genes.total <= ENUMERATE:
            return self._genes.all()
        archive = self._history.codes[self._history.archive()]
        return np.concatenate([self._offspring(archive, self._some(CHILDREN)), self._random(self._some(STRANGERS))])

    def _some(self, n: int) -> int:
        return max(1, round(n * self._effort))

    def _random(self, n: int) -> Codes:
        return self._genes.random(n, self._rng)

    def _offspring(self, parents: Codes, n: int) -> Codes:
        free = ~np.isin(np.arange(len(self._genes.sizes)), list(self._fixed))
        return offspring(parents, n, self._genes, free, self._rng)

    def _fresh(self, codes: Codes) -> Pool:
        """The new ones of the candidates, or, if there are none, of as much of the space as can be looked at."""
        pool = self._new(codes)
        if len(pool):
            return pool
        return self._new(self._genes.all() if self._genes.total <= LISTED else self._random(2000))

    def _new(self, codes: Codes) -> Pool:
        """Those that are allowed and were not asked, each once, with what is known of them."""
        codes = codes.copy()
        for position, code in self._fixed.items():
            codes[:, position] = code
        names = dict(zip(self._identities(codes), range(len(codes)), strict=True))
        codes = codes[sorted(i for name, i in names.items() if name not in self._taken)]
        if self._known.allowed is not None and len(codes):
            codes = codes[np.asarray(self._known.allowed(self._genes.picks(codes)), dtype=bool)]
        return self._pool(codes)

    def _pool(self, codes: Codes) -> Pool:
        picks, known, shape = self._genes.picks(codes), self._known, (len(codes), self._history.values.shape[1])
        cheap = known.cheap(picks) if picks else np.empty(shape)
        doubt = known.doubt(picks) if picks and known.doubt is not None else np.zeros(shape)
        chance = known.chance(picks) if picks and known.chance is not None else np.ones(len(codes))
        return Pool(codes, picks, cheap, doubt, chance)

    def _described(self, pool: Pool) -> tuple[Floats, Floats, Floats]:
        """Known objectives [n, m], the genes' features [n, d] and descriptions [n, e] of candidates."""
        described = np.empty((len(pool), 0))
        if self._known.features is not None:
            described = np.asarray(self._known.features(pool.picks), dtype=np.float64).reshape(len(pool), -1)
        return pool.cheap, self._genes.features(pool.codes), described

    def _remembered(self, codes: Codes, names: dict[bytes, Any]) -> list[Any]:
        """Identities, looked up among those that were found before."""
        keys = as_bytes(codes)
        new = [i for i, key in enumerate(keys) if key not in names]
        names.update(zip([keys[i] for i in new], self._identities(codes[new]), strict=True))
        return [names[key] for key in keys]

    def _identities(self, codes: Codes) -> list[Any]:
        if self._known.identity is None or not len(codes):
            return as_bytes(codes)
        return list(self._known.identity(self._genes.picks(codes)))

    def _examples(self) -> Examples:
        h = self._history.thinned()
        pool = self._pool(h.codes)
        # A limit on what is known explains why they broke: that they did says nothing of others.
        rows = ~(h.broken & (pool.chance < 0.5))
        # What is known for sure is what counts: a latency may have been told of a busy machine.
        values = np.where(np.isfinite(pool.cheap) & (pool.doubt == 0) & h.done[:, None], pool.cheap, h.values)
        more, own = self._earlier, int(rows.sum())
        cheap, genes, described = self._described(self._pool(more.codes) + pool[rows])
        none, nobody = np.zeros(len(more.codes), dtype=bool), np.zeros(own, dtype=bool)
        return Examples(  # what is older comes first
            cheap=cheap, genes=genes, described=described, values=np.concatenate([more.values, values[rows]]),
            done=np.concatenate([none, h.done[rows]]), broken=np.concatenate([none, h.broken[rows]]),
            elsewhere=np.concatenate([~none, nobody]), looks=np.concatenate([more.looks, h.looks[rows]]),
            stopped=np.concatenate([none, h.stopped[rows]]),
        )  # fmt: skip
