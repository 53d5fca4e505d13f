"""Candidate screen: many offspring are generated, and the one with the largest acquisition value is proposed.

Every objective is maximised here. A proposal follows from the history and the generator alone; caches only save time.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.searcher.acquisition.base import ParamsList, SamplerContext
from nas.searcher.acquisition.encoding import Codes, GeneEncoding
from nas.searcher.acquisition.expected_improvement import ExpectedImprovement, Observations
from nas.searcher.acquisition.trial_history import TrialHistory
from nas.searcher.acquisition.variation import farthest, local_search, offspring, van_der_corput

Floats = npt.NDArray[np.float64]

MAX_FULLY_SCREENED = 1000
"""Points up to which the whole space is screened for each trial."""
MAX_ENUMERATED = 20_000
"""Points up to which the space is enumerated when offspring contain nothing new."""
N_CHILDREN, N_RANDOM, N_GRANDCHILDREN = 300, 80, 200
"""Children of the archive, uniform points, and children of the best `N_PARENTS` of both."""
N_PARENTS = 15
N_LOCAL_CHILDREN = 60
"""Children in each round of a local search."""
N_UNENUMERATED = 2000
"""Uniform points that stand in for a space too large to enumerate."""
MIN_FEASIBILITY = 0.1
"""Probability of keeping the known limits from which on a candidate is proposed without an acquisition value."""
UNSCREENED_EVERY = 4
"""Every so many trials the first child of the archive is proposed unscreened, which bounds what a wrong model costs."""


@dataclass(frozen=True)
class CandidatePool:
    """Candidates with what is known about them.

    Attributes:
        codes: [n, g].
        params_list: [n] their params.
        known_objectives: [n, m], NaN where unknown.
        log_std: [n, m] standard deviations of the logarithm of the known objectives.
        feasibility: [n] probability that the limits on them are kept.
    """

    codes: Codes
    params_list: ParamsList
    known_objectives: Floats
    log_std: Floats
    feasibility: Floats

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: npt.NDArray[Any]) -> "CandidatePool":
        rows = np.arange(len(self))[rows]
        params_list = [self.params_list[i] for i in rows]
        return CandidatePool(
            self.codes[rows], params_list, self.known_objectives[rows], self.log_std[rows], self.feasibility[rows]
        )

    def __add__(self, other: "CandidatePool") -> "CandidatePool":
        return CandidatePool(
            np.concatenate([self.codes, other.codes]),
            [*self.params_list, *other.params_list],
            np.concatenate([self.known_objectives, other.known_objectives]),
            np.concatenate([self.log_std, other.log_std]),
            np.concatenate([self.feasibility, other.feasibility]),
        )

    def likely_feasible(self) -> "CandidatePool":
        """Those with a feasibility of `MIN_FEASIBILITY` or more; if there are none, the most likely ones."""
        return self[self.feasibility >= min(MIN_FEASIBILITY, float(self.feasibility.max(initial=0.0)))]


class CandidateScreen:
    """Proposes the codes of the next trial from a history.

    Args:
        encoding: of the space.
        context: knowledge about params, with every known objective maximised. Its `prior_trials`, `space` and `cache`
            are not used here.
        history: all trials of this search, running ones included.
        prior_trials: trials of other searches.
        evaluated_identities: identities of the history, which are not proposed again.
        fixed_codes: gene position to code, for genes that are not free.
        n_startup_trials: trials that fill the space before a model is fitted.
        rng: source of all randomness.
    """

    def __init__(
        self, encoding: GeneEncoding, context: SamplerContext, history: TrialHistory, *,
        prior_trials: TrialHistory, evaluated_identities: AbstractSet[Any], fixed_codes: Mapping[int, int],
        n_startup_trials: int, rng: np.random.Generator,
    ) -> None:  # fmt: skip
        self._encoding, self._context, self._history, self._fixed_codes = encoding, context, history, fixed_codes
        self._prior_trials = prior_trials
        self._n_startup_trials, self._rng = n_startup_trials, rng
        self._evaluated_identities = evaluated_identities

    def propose(self) -> Codes | None:
        """The codes [g] to evaluate next; None if no point is left that is new and allowed."""
        n_trials = len(self._history) + len(self._prior_trials)
        # Standardisation and the range of the front need two feasible trials.
        if n_trials < self._n_startup_trials or self._history.outcomes.is_feasible.sum() < 2:
            return self._space_filling()
        pool = self._new_or_enumerated(self._candidates())
        if not len(pool):
            return None
        if len(self._history) % UNSCREENED_EVERY == 0 and self._encoding.n_points > MAX_FULLY_SCREENED:
            return np.asarray(pool.likely_feasible().codes[0])
        acquisition = ExpectedImprovement(self._observations())
        values = self._acquisition_values(acquisition, pool)
        if self._encoding.n_points <= MAX_FULLY_SCREENED:
            return self._best_codes(pool, values)
        # One step of evolution on the acquisition function itself, whose optimum random children rarely contain.
        best = pool.codes[np.argsort(-values, kind="stable")[:N_PARENTS]]
        grandchildren = self._new_pool(self._offspring(best, self._scaled(N_GRANDCHILDREN)))
        if not len(grandchildren):
            return self._best_codes(pool, values)
        values = np.concatenate([values, self._acquisition_values(acquisition, grandchildren)])
        return self._best_codes(pool + grandchildren, values)

    def _acquisition_values(self, acquisition: ExpectedImprovement, pool: CandidatePool) -> Floats:
        """[n] Acquisition values, times the probability that the limits on known objectives are kept."""
        return pool.feasibility * acquisition(*self._features(pool), log_std=pool.log_std)

    def _best_codes(self, pool: CandidatePool, acquisition_values: Floats) -> Codes:
        """The codes [g] of the largest value; if no value is positive, those farthest from all evaluated points."""
        if acquisition_values.max() > 0:
            return np.asarray(pool.codes[int(np.argmax(acquisition_values))])
        codes = pool.likely_feasible().codes
        return np.asarray(codes[farthest(codes, self._history.codes)])

    def _space_filling(self) -> Codes | None:
        """Startup trials: spread over the genes, and over the range of the known objectives.

        The first trials are the optimum of each known objective, which bound the front. Each of the others comes from
        the tenth of the pool around the next van der Corput quantile of a known objective, the objectives in turn, and
        is the point of that tenth farthest from all evaluated ones.
        """
        whole = self._encoding.n_points <= MAX_FULLY_SCREENED
        pool = self._new_or_enumerated(
            self._rng.permutation(self._encoding.all_codes()) if whole else self._random_codes(self._scaled(N_CHILDREN))
        )
        if not len(pool):
            return None
        if pool.feasibility.max() < MIN_FEASIBILITY:
            # Limits so tight that no random point is likely to keep them: climb towards the feasible region.
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
        children = self._new_pool(self._offspring(parent, N_LOCAL_CHILDREN))
        return children.codes, children.known_objectives[:, objective]

    def _children_by_feasibility(self, parent: Codes) -> tuple[Codes, Floats]:
        children = self._new_pool(self._offspring(parent, N_LOCAL_CHILDREN))
        return children.codes, children.feasibility

    def _candidates(self) -> Codes:
        """The whole space if it is small, else children of the archive and some uniform points."""
        if self._encoding.n_points <= MAX_FULLY_SCREENED:
            return self._encoding.all_codes()
        archive = self._history.codes[self._history.archive]
        return np.concatenate(
            [self._offspring(archive, self._scaled(N_CHILDREN)), self._random_codes(self._scaled(N_RANDOM))]
        )

    def _scaled(self, n: int) -> int:
        return max(1, round(n * self._context.pool_scale))

    def _random_codes(self, n: int) -> Codes:
        return self._encoding.sample(n, self._rng)

    def _offspring(self, parents: Codes, n: int) -> Codes:
        free = ~np.isin(np.arange(len(self._encoding.n_options)), list(self._fixed_codes))
        return offspring(parents, n, self._encoding, free, self._rng)

    def _new_or_enumerated(self, codes: Codes) -> CandidatePool:
        """The new ones of the candidates or, if there are none, of the whole space, or of a sample of a large one."""
        pool = self._new_pool(codes)
        if len(pool):
            return pool
        small = self._encoding.n_points <= MAX_ENUMERATED
        return self._new_pool(self._encoding.all_codes() if small else self._random_codes(N_UNENUMERATED))

    def _new_pool(self, codes: Codes) -> CandidatePool:
        """Candidates that are allowed and not in the history, one for each identity."""
        codes = codes.copy()
        for position, code in self._fixed_codes.items():
            codes[:, position] = code
        # A dictionary keeps the last row of each identity, and `sorted` restores the order of the rows.
        row_of = dict(zip(self._encoding.identities(codes, self._context.identity), range(len(codes)), strict=True))
        codes = codes[sorted(i for identity, i in row_of.items() if identity not in self._evaluated_identities)]
        if self._context.allowed is not None and len(codes):
            codes = codes[np.asarray(self._context.allowed(self._encoding.decode(codes)), dtype=bool)]
        return self._make_pool(codes)

    def _make_pool(self, codes: Codes) -> CandidatePool:
        params_list, context = self._encoding.decode(codes), self._context
        known = np.full((len(codes), self._history.outcomes.values.shape[1]), np.nan)
        log_std, feasibility = np.zeros(known.shape), np.ones(len(codes))
        if params_list and context.known_objectives is not None:
            known = np.asarray(context.known_objectives(params_list), dtype=np.float64)
        if params_list and context.log_std is not None:
            log_std = np.asarray(context.log_std(params_list), dtype=np.float64)
        if params_list and context.feasibility is not None:
            feasibility = np.asarray(context.feasibility(params_list), dtype=np.float64)
        return CandidatePool(codes, params_list, known, log_std, feasibility)

    def _features(self, pool: CandidatePool) -> tuple[Floats, Floats, Floats]:
        """Known objectives [n, m], gene features [n, d] and candidate features [n, e] of a pool."""
        features = np.empty((len(pool), 0))
        if self._context.features is not None:
            features = np.asarray(self._context.features(pool.params_list), dtype=np.float64).reshape(len(pool), -1)
        return pool.known_objectives, self._encoding.features(pool.codes), features

    def _observations(self) -> Observations:
        """Observations of prior trials, which are older and so come first, and of a subsample of this search's."""
        history = self._history.subsampled()
        outcomes, pool = history.outcomes, self._make_pool(history.codes)
        # Trials that most likely broke a limit on known objectives: the limit explains their infeasibility, so they
        # would mislead the model of the constraints that need an evaluation.
        rows = ~(outcomes.is_infeasible & (pool.feasibility < 0.5))
        # An exactly known objective replaces the observed one, which may be a latency of a busy machine.
        is_exact = np.isfinite(pool.known_objectives) & (pool.log_std == 0) & outcomes.is_feasible[:, None]
        outcomes = replace(outcomes, values=np.where(is_exact, pool.known_objectives, outcomes.values))
        prior = self._prior_trials
        known, gene_features, candidate_features = self._features(self._make_pool(prior.codes) + pool[rows])
        return Observations(
            known_objectives=known,
            gene_features=gene_features,
            candidate_features=candidate_features,
            outcomes=prior.outcomes + outcomes[rows],
        )
