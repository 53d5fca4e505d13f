"""Children of the archive, screened before they are asked: our own sampler, usable with any Optuna study.

    study = optuna.create_study(directions=["maximize", "minimize"], sampler=ScreenedSampler(cheap=latency_of, seed=0))

Each trial: children of the non-dominated trials by mutation and crossover; objectives that need no evaluation are
computed (`cheap`), the others guessed with their uncertainty; the child with the largest expected hypervolume gain is
asked. Nothing is asked twice, running trials count as if they had come out as guessed, and the first trials spread out
over the space and over what is known.

The split into cheap and expensive objectives is that of LEMONADE (https://arxiv.org/abs/1804.09081), guesses instead of
evaluations are those of BANANAS (https://arxiv.org/abs/1910.11858). Different here: the gain is hypervolume, exact for
what is known; guesses come from a small Gaussian process over genes and descriptions; and the same seed and
history ask the same, from whichever process.
"""

import logging
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
from optuna.distributions import BaseDistribution
from optuna.search_space import intersection_search_space
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas.latency.measured.gc_control import gc_paused
from nas.searcher.acquisition.base import (
    EMPTY_CONTEXT,
    EXHAUSTED,
    LOW_FIDELITY,
    LOW_FIDELITY_ONLY,
    Picks,
    PriorTrials,
    SamplerContext,
)
from nas.searcher.acquisition.cache import SamplerCache, TrialRow, TrialTable
from nas.searcher.acquisition.candidate_screen import CandidateScreen, EncodedPriorTrials, ScreenContext, TrialHistory
from nas.searcher.acquisition.encoding import Codes, GeneEncoding, as_bytes

logger = logging.getLogger(__name__)

N_STARTUP_TRIALS = 10
"""Trials that spread out before anything is learned."""

PICKS = "screened:picks"
"""System attribute of a trial: what was asked, so that other workers see it before its genes are suggested."""


class ScreenedSampler(optuna.samplers.BaseSampler):
    """Asks the child with the largest expected hypervolume gain. For one objective that is expected improvement.

    The space is flat: what all finished trials had in common, or `space`. Categories, integers and floats with a step
    are searched exactly, ranges without a step on a grid of 64 values. Genes outside it are drawn at random. Functions
    below take a list of picks (mappings from gene to value) and must give the same answer each time.

    A trial whose constraints (`trial.set_constraint`) are not all 0 or less is infeasible: it is not repeated, what it
    says of feasibility is learned, and its objective values are ignored. A failed trial counts as infeasible.

    A search that looks at candidates first, by a short training, may say so in user attributes of a trial: `look`, the
    objective values that the look gave (None where it gave none), and `look_only`, True where the look was all. Looks
    are learned for what they tell of final values, and what was only looked at counts as neither good nor bad.

    Args:
        seed: of all randomness; None draws one.
        cheap: objective values [n, m] in the study's units and order, NaN where unknown. Those that it knows are
            never guessed, and taken as exact but for `doubt`.
        doubt: standard deviations [n, m] of the logarithm of what `cheap` gives; 0 for what is exact.
        chance: probability [n] that limits on what is cheap are kept. What most likely breaks them is not asked; what
            does break them teaches nothing more.
        features: numbers [n, d] that describe picks to the guesser, beside the genes.
        allowed: bool [n]; what is not allowed is never asked.
        identity: names [n]; picks of one name are one candidate and are asked once.
        earlier: picks that were evaluated elsewhere, and their values [k, m] in the study's units, NaN where nothing
            is to be learned; if wanted also what first looks at them gave [k, m], NaN without one. They are examples
            for what is guessed, but on no front.
        space: name to distribution; lets the very first trial spread out too.
        start: trials before anything is learned, 2 or more.
        effort: share of the usual number of candidates (580) that are looked at for each trial; less takes less time.
        memory: shared by the samplers that one study has in turn; None begins a new one.

    Raises:
        ValueError: `start` is below 2, `effort` is not positive, or a function above returns another shape.

    Examples:
        >>> study = optuna.create_study(directions=["minimize", "minimize"], sampler=nas.ScreenedSampler(seed=0))
        >>> def objective(trial):
        ...     depth, width = trial.suggest_int("depth", 1, 8), trial.suggest_int("width", 1, 8)
        ...     return depth * width, (depth - 5) ** 2 + 1 / width
        >>> study.optimize(objective, n_trials=12)
        >>> len(study.trials)
        12
    """

    def __init__(
        self,
        *,
        seed: int | None = None,
        known_objectives: Callable[[Picks], npt.ArrayLike] | None = None,
        log_std: Callable[[Picks], npt.ArrayLike] | None = None,
        feasibility: Callable[[Picks], npt.ArrayLike] | None = None,
        features: Callable[[Picks], npt.ArrayLike] | None = None,
        allowed: Callable[[Picks], npt.ArrayLike] | None = None,
        identity: Callable[[Picks], Sequence[Any]] | None = None,
        prior_trials: Callable[[], PriorTrials] | None = None,
        space: Mapping[str, BaseDistribution] | None = None,
        n_startup_trials: int = N_STARTUP_TRIALS,
        pool_scale: float = 1.0,
        cache: SamplerCache | None = None,
    ) -> None:
        if n_startup_trials < 2:
            raise ValueError(
                f"start must be 2 or more, but got {n_startup_trials}; two trials are the least to learn from"
            )
        if pool_scale <= 0:
            raise ValueError(
                f"effort must be positive, but got {pool_scale}; 1 looks at the usual number of candidates"
            )
        self._seed = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed
        self._known_objectives, self._log_std, self._feasibility, self._features = (
            known_objectives,
            log_std,
            feasibility,
            features,
        )
        self._allowed, self._identity, self._prior_trials = allowed, identity, prior_trials
        self._space, self._n_startup_trials, self._pool_scale = space, n_startup_trials, pool_scale
        self._cache = cache or SamplerCache()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The given space, or what all finished trials have in common; genes with one option are left out."""
        found = dict(self._space) if self._space is not None else intersection_search_space(study.get_trials(False))
        return {name: d for name, d in sorted(found.items()) if not d.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """All genes of the next trial; nothing if the space is not known yet or holds nothing new."""
        if not search_space:
            return {}
        with gc_paused():  # of the many objects that live for this call alone, none is garbage
            return self._sample_all(study, trial, search_space)

    def _sample_all(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        drawn: dict[str, Any] = trial.system_attrs.get(PICKS, {})
        if drawn.keys() >= search_space.keys():  # by a process that died
            return drawn
        rows = self._cache.table_of(search_space)
        genes = rows.encoding
        fixed = genes.fixed_codes(trial.system_attrs.get("fixed_params", {}))
        if len(fixed) == len(genes.names):
            return {}  # nothing is free
        codes = self._propose(study, trial, rows, fixed)
        if codes is None:
            known = any(EXHAUSTED in old.system_attrs for old in study.get_trials(deepcopy=False))
            told = "every point of the space was asked; trial %d repeats one at random"
            logger.log(logging.DEBUG if known else logging.WARNING, told, trial.number)
            study._storage.set_trial_system_attr(trial._trial_id, EXHAUSTED, True)
            codes = genes.sample(1, np.random.default_rng([self._seed, trial.number]))[0]
        picked = genes.decode(codes[None])[0]
        study._storage.set_trial_system_attr(trial._trial_id, PICKS, picked)
        return picked

    def _propose(
        self, study: Study, trial: FrozenTrial, table: TrialTable, fixed_codes: Mapping[int, int]
    ) -> Codes | None:
        return CandidateScreen(
            table.encoding, self._screen_context(study), self._trial_history(study, trial, table),
            prior_trials=self._encode_prior_trials(study, table.encoding), identities=table.identities, fixed_codes=fixed_codes, n_startup_trials=self._n_startup_trials,
            pool_scale=self._pool_scale, rng=np.random.default_rng([self._seed, trial.number]),
        ).propose()  # fmt: skip

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A uniform value that depends on seed, trial and gene only."""
        numbers = (self._seed, trial.number, zlib.crc32(param_name.encode()))
        random = optuna.samplers.RandomSampler(seed=int(np.random.SeedSequence(numbers).generate_state(1)[0]))
        return random.sample_independent(study, trial, param_name, param_distribution)

    def _trial_history(self, study: Study, trial: FrozenTrial, table: TrialTable) -> TrialHistory:
        signs, genes = _signs(study), len(table.encoding.names)
        unknown = [np.nan] * len(signs)

        def look_up(new: Sequence[FrozenTrial]) -> list[TrialRow]:
            found, places = table.encoding.encode_all([_pick_of(old, genes) for old in new])
            codes = dict(zip(places.tolist(), as_bytes(found), strict=True))
            return [_trial_row(old, codes.get(i), unknown) for i, old in enumerate(new)]

        asked = [old for old in study.get_trials(deepcopy=False) if old.number != trial.number]
        told = table.rows_of([old for old in asked if old.state != TrialState.WAITING], look_up)
        told = [row for row in told if row.codes is not None]
        values, looks = (
            signs * np.array(each, dtype=np.float64).reshape(len(told), len(signs))
            for each in ([row.values for row in told], [row.low_fidelity_values for row in told])
        )
        stopped, running = (
            np.array(each, dtype=bool)
            for each in ([row.is_low_fidelity_only for row in told], [row.is_running for row in told])
        )
        done = np.asarray(np.isfinite(values).all(axis=1))
        codes = np.frombuffer(b"".join(row.codes or b"" for row in told), dtype=np.int64).reshape(len(told), genes)
        return TrialHistory(
            codes=codes, values=np.where(done[:, None], values, np.nan), is_feasible=done,
            is_infeasible=~(done | stopped | running), low_fidelity_values=looks, is_low_fidelity_only=stopped,
        )  # fmt: skip

    def _encode_prior_trials(self, study: Study, encoding: GeneEncoding) -> EncodedPriorTrials | None:
        """What was evaluated or looked at elsewhere and has a place in this space."""
        if self._prior_trials is None:
            return None
        picks, values, *rest = self._prior_trials()
        shape = (len(picks), len(study.directions))
        told, looks = _check_shape("earlier", values, shape), np.full(shape, np.nan)
        if rest:
            looks = _check_shape("earlier looks", rest[0], shape)
        codes, rows = encoding.encode_all(picks)
        return EncodedPriorTrials(
            codes=codes, values=_signs(study) * told[rows], low_fidelity_values=_signs(study) * looks[rows]
        )

    def _screen_context(self, study: Study) -> ScreenContext:
        signs = _signs(study)

        def cheap(picks: Picks) -> npt.NDArray[np.float64]:
            if self._known_objectives is None:
                return np.full((len(picks), len(signs)), np.nan)
            return signs * _check_shape("cheap", self._known_objectives(picks), (len(picks), len(signs)))

        return ScreenContext(
            known_objectives=cheap,
            log_std=_with_row_check("doubt", self._log_std),
            feasibility=_with_row_check("chance", self._feasibility),
            features=_with_row_check("features", self._features),
            allowed=_with_row_check("allowed", self._allowed),
            identity=self._identity,
        )


def make(seed: int, context: SamplerContext = EMPTY_CONTEXT) -> optuna.samplers.BaseSampler:
    """A sampler; the same seed on the same history and knowledge asks the same."""
    return ScreenedSampler(
        seed=seed, space=context.space or None, known_objectives=context.known_objectives, log_std=context.log_std, feasibility=context.feasibility,
        features=context.features, allowed=context.allowed, identity=context.identity, prior_trials=context.prior_trials,
        pool_scale=context.pool_scale, cache=context.cache,
    )  # fmt: skip


def _pick_of(trial: FrozenTrial, n_genes: int) -> Mapping[str, Any]:
    """What a trial stands for: its genes; while not all of so many were suggested, what was drawn for the others."""
    if len(trial.params) >= n_genes:
        return trial.params
    return {**trial.system_attrs.get(PICKS, {}), **trial.system_attrs.get("fixed_params", {}), **trial.params}


def _trial_row(trial: FrozenTrial, codes: bytes | None, unknown: Sequence[float]) -> TrialRow:
    feasible = trial.state == TrialState.COMPLETE and all(v <= 0 for v in trial.constraints.values())
    stopped = feasible and bool(trial.user_attrs.get(LOW_FIDELITY_ONLY))
    values = trial.values if feasible and not stopped else unknown
    look = trial.user_attrs.get(LOW_FIDELITY, unknown)
    return TrialRow(codes, values, look, stopped, is_running=trial.state == TrialState.RUNNING)


def _signs(study: Study) -> npt.NDArray[np.float64]:
    return np.array([1.0 if d == StudyDirection.MAXIMIZE else -1.0 for d in study.directions])


def _with_row_check(name: str, ask: Callable[[Picks], npt.ArrayLike] | None) -> Callable[[Picks], Any] | None:
    """The function with its answers' first dimension checked."""
    if ask is None:
        return None

    def checked(picks: Picks) -> npt.NDArray[Any]:
        answer = np.asarray(ask(picks))
        if answer.ndim == 0 or len(answer) != len(picks):
            raise ValueError(f"{name} must give {len(picks)} rows for {len(picks)} picks, but gave {answer.shape}")
        return answer

    return checked


def _check_shape(name: str, answer: npt.ArrayLike, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    array = np.asarray(answer, dtype=np.float64)
    if array.shape != shape:
        raise ValueError(f"{name} must give an array {shape}, one row a pick, but gave {array.shape}")
    return array
