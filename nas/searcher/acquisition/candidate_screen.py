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
from nas.searcher.acquisition.encoding import Codes, GeneEncoding, as_bytes
from nas.searcher.acquisition.expected_improvement import ExpectedImprovement, Observations
from nas.searcher.acquisition.subsample import newest_and_spread
from nas.searcher.acquisition.variation import farthest, local_search, offspring, van_der_corput

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Picks = Sequence[Mapping[str, Any]]

MAX_FULLY_SCREENED = 1000
"""Spaces with at most so many points are screened whole."""
MAX_ENUMERATED = 20_000
"""Spaces with at most so many points are listed when children find nothing new."""
N_CHILDREN, N_RANDOM, N_GRANDCHILDREN = 300, 80, 200
"""Children of the archive, points from the whole space, and children of the best `N_PARENTS` of both."""
N_PARENTS = 15
MAX_FEASIBLE_EXAMPLES, MAX_OTHER_EXAMPLES = 300, 150
"""Finished trials that are learned from; those that broke a limit, and those that ended at a first look."""
MIN_FEASIBILITY = 0.1
"""Chance to keep the limits from which a candidate is asked without being worth it by what is guessed."""
UNSCREENED_EVERY = 4
"""Every so many trials a child of the archive is asked as it comes, which keeps the guesses honest."""


@dataclass(frozen=True, kw_only=True)
class TrialHistory:
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
    is_feasible: Mask
    is_infeasible: Mask
    low_fidelity_values: Floats
    is_low_fidelity_only: Mask

    def __len__(self) -> int:
        return len(self.codes)

    def archive(self) -> npt.NDArray[np.int64]:
        """Rows of the non-dominated among the done."""
        done = np.flatnonzero(self.is_feasible)
        values = self.values[done]
        return done[non_dominated(values, [True] * values.shape[1])]

    def subsampled(self) -> "TrialHistory":
        """What there is to learn from, to bound the time: the archive, the worst of each objective, all that is
        running, and of the rest half the newest, half spread over the others."""
        done, broken = np.flatnonzero(self.is_feasible), np.flatnonzero(self.is_infeasible)
        worst = done[self.values[done].argmin(axis=0)]
        running = np.flatnonzero(~(self.is_feasible | self.is_infeasible | self.is_low_fidelity_only))
        parts = (
            self.archive(),
            worst,
            running,
            newest_and_spread(done, MAX_FEASIBLE_EXAMPLES),
            newest_and_spread(broken, MAX_OTHER_EXAMPLES),
        )
        rows = np.unique(
            np.concatenate([*parts, newest_and_spread(np.flatnonzero(self.is_low_fidelity_only), MAX_OTHER_EXAMPLES)])
        )
        return TrialHistory(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


@dataclass(frozen=True, kw_only=True)
class EncodedPriorTrials:
    """Codes [k, g] that other searches evaluated, and what their values and first looks tell [k, m], more is better;
    NaN where nothing."""

    codes: Codes
    values: Floats
    low_fidelity_values: Floats


@dataclass(frozen=True, kw_only=True)
class ScreenContext:
    """What is known of picks without evaluating them; each function takes a list of picks.

    Attributes:
        cheap: values [n, m], more is better, NaN where unknown.
        doubt: [n, m] standard deviations of the logarithm of what is cheap.
        chance: [n] probability that the limits on what is cheap are kept.
        features: [n, d] numbers that describe the picks.
        allowed: [n] bool.
        identity: [n] hashable names; picks of one name count as duplicates.
    """

    known_objectives: Callable[[Picks], Floats]
    log_std: Callable[[Picks], Floats] | None = None
    feasibility: Callable[[Picks], Floats] | None = None
    features: Callable[[Picks], Floats] | None = None
    allowed: Callable[[Picks], Mask] | None = None
    identity: Callable[[Picks], Sequence[Any]] | None = None


@dataclass(frozen=True)
class CandidatePool:
    """Candidates: codes [n, g], the picks they stand for, known objectives [n, m] (NaN where unknown) with the doubt
    in them [n, m], and the chance [n] that limits on them are kept."""

    codes: Codes
    picks: Picks
    known_objectives: Floats
    log_std: Floats
    feasibility: Floats

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: npt.NDArray[Any]) -> "CandidatePool":
        rows = np.arange(len(self))[rows]
        picks = [self.picks[i] for i in rows]
        return CandidatePool(
            self.codes[rows], picks, self.known_objectives[rows], self.log_std[rows], self.feasibility[rows]
        )

    def __add__(self, other: "CandidatePool") -> "CandidatePool":
        arrays = ((getattr(self, name), getattr(other, name)) for name in ("known_objectives", "log_std", "feasibility"))
        codes = np.concatenate([self.codes, other.codes])
        return CandidatePool(codes, [*self.picks, *other.picks], *(np.concatenate(both) for both in arrays))

    def likely_feasible(self) -> "CandidatePool":
        """Those that may well keep the limits; if there are none, the likeliest."""
        return self[self.feasibility >= min(MIN_FEASIBILITY, float(self.feasibility.max(initial=0.0)))]


class CandidateScreen:
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
        self, encoding: GeneEncoding, context: ScreenContext, history: TrialHistory, *, prior_trials: EncodedPriorTrials | None = None,
        identities: dict[bytes, Any] | None = None, fixed_codes: Mapping[int, int], n_startup_trials: int, pool_scale: float = 1.0,
        rng: np.random.Generator,
    ) -> None:  # fmt: skip
        self._encoding, self._context, self._history, self._fixed_codes = encoding, context, history, fixed_codes
        none = EncodedPriorTrials(
            codes=history.codes[:0], values=history.values[:0], low_fidelity_values=history.low_fidelity_values[:0]
        )
        self._prior_trials = prior_trials or none
        self._n_startup_trials, self._rng, self._pool_scale = n_startup_trials, rng, pool_scale
        self._evaluated_identities = set(
            self._cached_identities(history.codes, {} if identities is None else identities)
        )

    def propose(self) -> Codes | None:
        """The codes [g] to ask next; None if every point has been asked or is not allowed."""
        if (
            len(self._history) + len(self._prior_trials.codes) < self._n_startup_trials
            or self._history.is_feasible.sum() < 2
        ):
            return self._space_filling()
        pool = self._new_or_enumerated(self._candidates())
        if not len(pool):
            return None
        if len(self._history) % UNSCREENED_EVERY == 0 and self._encoding.n_points > MAX_FULLY_SCREENED:
            return np.asarray(pool.likely_feasible().codes[0])
        judge = ExpectedImprovement(self._observations())
        worth = self._acquisition_values(judge, pool)
        if self._encoding.n_points <= MAX_FULLY_SCREENED:
            return self._best_codes(pool, worth)
        best = pool.codes[np.argsort(-worth, kind="stable")[:N_PARENTS]]
        young = self._new_pool(self._offspring(best, self._scaled(N_GRANDCHILDREN)))
        if not len(young):
            return self._best_codes(pool, worth)
        return self._best_codes(pool + young, np.concatenate([worth, self._acquisition_values(judge, young)]))

    def _acquisition_values(self, acquisition: ExpectedImprovement, pool: CandidatePool) -> Floats:
        return pool.feasibility * acquisition(*self._features(pool), log_std=pool.log_std)

    def _best_codes(self, pool: CandidatePool, acquisition_values: Floats) -> Codes:
        """The codes [g] worth the most; if nothing promises a gain, the farthest from all that was asked."""
        if acquisition_values.max() > 0:
            return np.asarray(pool.codes[int(np.argmax(acquisition_values))])
        codes = pool.likely_feasible().codes
        return np.asarray(codes[farthest(codes, self._history.codes)])

    def _space_filling(self) -> Codes | None:
        """Far from all that was asked, at the next level of what is known; at first the ends of what is known."""
        whole = self._encoding.n_points <= MAX_FULLY_SCREENED
        pool = self._new_or_enumerated(
            self._rng.permutation(self._encoding.all_codes()) if whole else self._random_codes(self._scaled(N_CHILDREN))
        )
        if not len(pool):
            return None
        if pool.feasibility.max() < MIN_FEASIBILITY:
            return local_search(pool.codes, pool.feasibility, self._children_by_feasibility)
        pool = pool.likely_feasible()
        turn, codes = len(self._history), pool.codes
        known = np.flatnonzero(np.isfinite(pool.known_objectives).all(axis=0))
        if not len(known):
            return np.asarray(codes[farthest(codes, self._history.codes)])
        objective = int(known[turn % len(known)])
        values = pool.known_objectives[:, objective]
        if turn < len(known):
            return local_search(codes, values, lambda parent: self._children_by_objective(parent, objective))
        width = max(1, len(codes) // 10)
        first = int(van_der_corput(turn // len(known)) * (len(codes) - width))
        codes = codes[np.argsort(values, kind="stable")[first : first + width]]
        return np.asarray(codes[farthest(codes, self._history.codes)])

    def _children_by_objective(self, parent: Codes, objective: int) -> tuple[Codes, Floats]:
        young = self._new_pool(self._offspring(parent, 60))
        return young.codes, young.known_objectives[:, objective]

    def _children_by_feasibility(self, parent: Codes) -> tuple[Codes, Floats]:
        young = self._new_pool(self._offspring(parent, 60))
        return young.codes, young.feasibility

    def _candidates(self) -> Codes:
        if self._encoding.n_points <= MAX_FULLY_SCREENED:
            return self._encoding.all_codes()
        archive = self._history.codes[self._history.archive()]
        return np.concatenate(
            [self._offspring(archive, self._scaled(N_CHILDREN)), self._random_codes(self._scaled(N_RANDOM))]
        )

    def _scaled(self, n: int) -> int:
        return max(1, round(n * self._pool_scale))

    def _random_codes(self, n: int) -> Codes:
        return self._encoding.sample(n, self._rng)

    def _offspring(self, parents: Codes, n: int) -> Codes:
        free = ~np.isin(np.arange(len(self._encoding.n_options)), list(self._fixed_codes))
        return offspring(parents, n, self._encoding, free, self._rng)

    def _new_or_enumerated(self, codes: Codes) -> CandidatePool:
        """The new ones of the candidates, or, if there are none, of as much of the space as can be looked at."""
        pool = self._new_pool(codes)
        if len(pool):
            return pool
        return self._new_pool(
            self._encoding.all_codes() if self._encoding.n_points <= MAX_ENUMERATED else self._random_codes(2000)
        )

    def _new_pool(self, codes: Codes) -> CandidatePool:
        """Those that are allowed and were not asked, each once, with what is known of them."""
        codes = codes.copy()
        for position, code in self._fixed_codes.items():
            codes[:, position] = code
        names = dict(zip(self._identities(codes), range(len(codes)), strict=True))
        codes = codes[sorted(i for name, i in names.items() if name not in self._evaluated_identities)]
        if self._context.allowed is not None and len(codes):
            codes = codes[np.asarray(self._context.allowed(self._encoding.decode(codes)), dtype=bool)]
        return self._make_pool(codes)

    def _make_pool(self, codes: Codes) -> CandidatePool:
        picks, known, shape = self._encoding.decode(codes), self._context, (len(codes), self._history.values.shape[1])
        cheap = known.known_objectives(picks) if picks else np.empty(shape)
        doubt = known.log_std(picks) if picks and known.log_std is not None else np.zeros(shape)
        chance = known.feasibility(picks) if picks and known.feasibility is not None else np.ones(len(codes))
        return CandidatePool(codes, picks, cheap, doubt, chance)

    def _features(self, pool: CandidatePool) -> tuple[Floats, Floats, Floats]:
        """Known objectives [n, m], the genes' features [n, d] and descriptions [n, e] of candidates."""
        described = np.empty((len(pool), 0))
        if self._context.features is not None:
            described = np.asarray(self._context.features(pool.picks), dtype=np.float64).reshape(len(pool), -1)
        return pool.known_objectives, self._encoding.features(pool.codes), described

    def _cached_identities(self, codes: Codes, identities: dict[bytes, Any]) -> list[Any]:
        """Identities, looked up among those that were found before."""
        keys = as_bytes(codes)
        new = [i for i, key in enumerate(keys) if key not in identities]
        identities.update(zip([keys[i] for i in new], self._identities(codes[new]), strict=True))
        return [identities[key] for key in keys]

    def _identities(self, codes: Codes) -> list[Any]:
        if self._context.identity is None or not len(codes):
            return as_bytes(codes)
        return list(self._context.identity(self._encoding.decode(codes)))

    def _observations(self) -> Observations:
        h = self._history.subsampled()
        pool = self._make_pool(h.codes)
        # A limit on what is known explains why they broke: that they did says nothing of others.
        rows = ~(h.is_infeasible & (pool.feasibility < 0.5))
        # What is known for sure is what counts: a latency may have been told of a busy machine.
        values = np.where(
            np.isfinite(pool.known_objectives) & (pool.log_std == 0) & h.is_feasible[:, None],
            pool.known_objectives,
            h.values,
        )
        more, own = self._prior_trials, int(rows.sum())
        cheap, genes, described = self._features(self._make_pool(more.codes) + pool[rows])
        none, nobody = np.zeros(len(more.codes), dtype=bool), np.zeros(own, dtype=bool)
        return Observations(  # what is older comes first
            known_objectives=cheap, gene_features=genes, candidate_features=described, values=np.concatenate([more.values, values[rows]]),
            is_feasible=np.concatenate([none, h.is_feasible[rows]]), is_infeasible=np.concatenate([none, h.is_infeasible[rows]]),
            is_prior=np.concatenate([~none, nobody]), low_fidelity_values=np.concatenate([more.low_fidelity_values, h.low_fidelity_values[rows]]),
            is_low_fidelity_only=np.concatenate([none, h.is_low_fidelity_only[rows]]),
        )  # fmt: skip
