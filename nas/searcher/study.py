"""Optuna, ask and tell: the study of a run, safe against processes that die and processes beside this one.

A trial is worked on by the process that holds its lock. A trial that is still running and whose lock nobody holds was
left by a process that died: the next `ask` hands it out again, under its own number, so none is lost and none is left.
One that has cost several processes their lives is given up, see `nas.searcher.crash_guard`.
"""

import itertools
import logging
import platform
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    check_distribution_compatibility,
)
from optuna.study import StudyDirection
from optuna.trial import TrialState

from nas.config import OBJECTIVES, SearchConfig
from nas.errors import ConfigError
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.searcher.acquisition.base import EMPTY_CONTEXT, EXHAUSTED, LOW_FIDELITY, LOW_FIDELITY_ONLY, SamplerContext
from nas.searcher.acquisition.cache import SamplerCache
from nas.searcher.crash_guard import ABANDONED_REASON, CrashGuard, crash_guard
from nas.searcher.gene_importance import gene_importance
from nas.searcher.promotion import first_rung_accuracy
from nas.searcher.storage import open_storage
from search_spaces._base import Choice, Value

logger = logging.getLogger(__name__)

MAXIMIZE, MINIMIZE = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE
WORST_VALUES = {"accuracy": 0.0}
"""What is told for an objective that was not evaluated, because a constraint was broken before."""


@dataclass(frozen=True, kw_only=True)
class AskedTrial:
    """A trial that this process holds: its number, its picks, how often it has ended a process, and whether it only
    repeats what was asked, as the sampler has found nothing else."""

    number: int
    picked: dict[str, Value]
    trial: optuna.Trial
    crash_guard: CrashGuard
    is_exhausted: bool = False


class Study:
    """The Optuna study of one run.

    Args:
        folder: the run.
        config: what was asked.
        choices: all genes.
        make_sampler: seed and what is known of picks to sampler.
        seeds: picks that are asked first.
        known: of picks, for the sampler.

    Raises:
        ConfigError: the storage cannot be reached, or its study has other objectives.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: SearchConfig,
        choices: Sequence[Choice],
        make_sampler: Any,
        initial_picks: Sequence[Mapping[str, Value]] = (),
        context: SamplerContext = EMPTY_CONTEXT,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.folder, self.objectives, self._rungs = folder, config.search.objectives, len(config.training.rungs)
        self.choices = {c.name: c for c in choices}
        self.distributions = {c.name: to_distribution(c) for c in choices}
        self._context = replace(context, space=self.distributions, cache=SamplerCache())
        directions = [MAXIMIZE if OBJECTIVES[o] else MINIMIZE for o in config.search.objectives]
        with folder.lock("ask", wait=True):
            self._storage = open_storage(folder.path, config.run.storage)
            try:
                self._study = optuna.create_study(
                    study_name=config.run_name, storage=self._storage, directions=directions, load_if_exists=True
                )
            except optuna.exceptions.StorageInternalError as error:
                raise ConfigError(f"storage {config.run.storage} cannot be used: {error}") from None
            if self._study.directions != directions:
                raise ConfigError(
                    f"study {config.run_name!r} in {config.run.storage} has other objectives; give this run a --name"
                )
            self._check_genes()
            self._make_sampler, self._seed = make_sampler, config.run.seed
            self._has_shared_storage = config.run.storage is not None
            if all(t.state == TrialState.WAITING for t in self._study.get_trials(deepcopy=False)):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                    self._study.set_metric_names(list(config.search.objectives))
                for picked in initial_picks:  # a process may have died between two of them
                    fixed = {k: v for k, v in picked.items() if k in self.choices}
                    self._study.enqueue_trial(fixed, skip_if_exists=True)

    def _check_genes(self) -> None:
        """Refuse to go on with a study that was begun with other options for a gene."""
        for trial in self._study.get_trials(deepcopy=False):
            for name, old in trial.distributions.items():
                try:
                    check_distribution_compatibility(old, self.distributions.get(name, old))
                except ValueError:
                    raise ConfigError(
                        f"gene {name} must keep its options, but this run was begun with {_format_options(old)} and now has "
                        f"{self.choices[name].options}; it can still be read: give the new run a --name"
                    ) from None

    def ask(self, locks: ExitStack) -> AskedTrial:
        """The next trial: one that a dead process left, or a new one. Its lock is held until `locks` closes."""
        with self.folder.lock("ask", wait=True):
            return self._suggest_all(*(self._claim_stale(locks) or self._claim_new(locks)))

    def ask_stale(self, locks: ExitStack) -> AskedTrial | None:
        """A trial that a dead process left, if there is one. Its lock is held until `locks` closes."""
        with self.folder.lock("ask", wait=True):
            found = self._claim_stale(locks)
            return self._suggest_all(*found) if found else None

    def tell(self, asked: AskedTrial, record: Record) -> None:
        """Hand the outcome to Optuna: a failed candidate as failed, a duplicate with the values of the first."""
        attributes: dict[str, Any] = {"key": record.key, "status": record.status}
        if record.trial != asked.number:
            attributes["duplicate_of"] = record.trial
        if record.reason:
            attributes["reason"] = record.reason
        if record.latency:
            attributes["latency_kind"] = f"{record.latency.kind}, {record.latency.device}"
        attributes |= {"epochs": round(record.epochs, 2), "macs": record.macs, "model": record.model}
        attributes |= self._low_fidelity_attrs(record)
        for name, value in attributes.items():
            asked.trial.set_user_attr(name, value)
        if record.status == "failed":
            self._study.tell(asked.trial, state=TrialState.FAIL, skip_if_finished=True)
            return
        # optuna-dashboard up to 0.21 reads only the older attribute, so both are written.
        self._storage.set_trial_system_attr(asked.trial._trial_id, "constraints", list(record.violations.values()))
        told_before = asked.trial.constraints  # by a process that died before it could finish the trial
        for name in record.violations.keys() - told_before.keys():
            asked.trial.set_constraint(name, record.violations[name])
        values = [record.objective(o) for o in self.objectives]
        told = [WORST_VALUES.get(o, 0.0) if v is None else v for o, v in zip(self.objectives, values, strict=True)]
        self._study.tell(asked.trial, told, skip_if_finished=True)

    def _low_fidelity_attrs(self, record: Record) -> dict[str, Any]:
        """What the first rung showed of a candidate, for a sampler that learns from it; nothing where it had none."""
        accuracy = first_rung_accuracy(self.folder, self.objectives, record.key)
        if accuracy is None:
            return {}
        look = [accuracy if o == "accuracy" else None for o in self.objectives]
        return {LOW_FIDELITY: look, LOW_FIDELITY_ONLY: record.rung < self._rungs}

    def enqueue(self, picked: Mapping[str, Value]) -> None:
        """Have a pick asked soon, unless it was asked or proposed before."""
        with self.folder.lock("ask", wait=True):
            known = {name: value for name, value in picked.items() if name in self.choices}
            self._study.enqueue_trial(known, skip_if_exists=True)

    def fail(self, asked: AskedTrial, reason: str) -> None:
        """Give a trial up without a record."""
        asked.trial.set_user_attr("reason", reason)
        self._study.tell(asked.trial, state=TrialState.FAIL, skip_if_finished=True)

    def importance(self) -> dict[str, dict[str, float]]:
        """Objective to gene to its share, 0..1, in what makes good values; empty with few trials."""
        return gene_importance(self._study, self.objectives)

    def _claim_stale(self, locks: ExitStack) -> tuple[optuna.Trial, CrashGuard] | None:
        for left in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            host = left.user_attrs.get("host", platform.node())
            if self._has_shared_storage and host != platform.node():
                continue
            free = locks.enter_context(self.folder.lock(f"trial-{left.number}"))
            # Whoever held it may have finished it between the list and the claim.
            if free and not self._storage.get_trial(left._trial_id).state.is_finished():
                made = locks.enter_context(crash_guard(self.folder, f"trial-{left.number}"))
                if made.should_skip and not self.choices.keys() <= left.params.keys():
                    self._fail_abandoned(left)  # it died while its picks were drawn, so it stands for no candidate
                    continue
                logger.info("trial %d was left by a process that died; it goes on", left.number)
                self._study.sampler = self._sampler(left.number)
                return optuna.trial.Trial(self._study, left._trial_id), made
        return None

    def _fail_abandoned(self, stale: optuna.trial.FrozenTrial) -> None:
        logger.warning("trial %d is given up: %s", stale.number, ABANDONED_REASON)
        self._storage.set_trial_user_attr(stale._trial_id, "reason", ABANDONED_REASON)
        self._study.tell(stale.number, state=TrialState.FAIL, skip_if_finished=True)

    def _claim_new(self, locks: ExitStack) -> tuple[optuna.Trial, CrashGuard]:
        trials = self._study.get_trials(deepcopy=False)
        number = min((t.number for t in trials if t.state == TrialState.WAITING), default=len(trials))
        self._study.sampler = self._sampler(number)
        trial = self._study.ask()
        locks.enter_context(self.folder.lock(f"trial-{trial.number}"))
        return trial, locks.enter_context(crash_guard(self.folder, f"trial-{trial.number}"))

    def _suggest_all(self, trial: optuna.Trial, guard: CrashGuard) -> AskedTrial:
        """All genes of a trial. Each has a sampler of its own seed, so a process may die between any two."""
        trial.set_user_attr("host", platform.node())
        _ = trial.relative_params  # drawn now and kept by the trial
        picked = {}
        for index, name in enumerate(self.choices, start=1):
            self._study.sampler = self._sampler(trial.number, index)
            picked[name] = self._suggest(trial, name)
        exhausted = bool(self._storage.get_trial(trial._trial_id).system_attrs.get(EXHAUSTED))
        return AskedTrial(number=trial.number, picked=picked, trial=trial, crash_guard=guard, is_exhausted=exhausted)

    def _sampler(self, *numbers: int) -> optuna.samplers.BaseSampler:
        sampler: optuna.samplers.BaseSampler = self._make_sampler(derive_seed(self._seed, *numbers), self._context)
        return sampler

    def _suggest(self, trial: optuna.Trial, name: str) -> Value:
        got: Value
        match self.distributions[name]:
            case CategoricalDistribution() as d:
                got = trial.suggest_categorical(name, d.choices)  # type: ignore[assignment]
            case IntDistribution() as d:
                got = trial.suggest_int(name, d.low, d.high, step=d.step)
            case FloatDistribution() as d:
                got = trial.suggest_float(name, d.low, d.high, step=d.step)
            case _:
                raise TypeError(f"no way to suggest {name}")
        options = self.choices[name].options
        return got if isinstance(got, str) else min(options, key=lambda o: abs(float(o) - float(got)))


def _format_options(found: BaseDistribution) -> str:
    return str(found.choices) if isinstance(found, CategoricalDistribution) else str(found)


def derive_seed(*numbers: int) -> int:
    """A sampler's seed, 0..2**32 - 1, from the search's seed, the trial's number and whatever else tells it apart."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def to_distribution(choice: Choice) -> BaseDistribution:
    """Optuna's form of a choice: evenly spaced numbers keep their order, everything else is categorical."""
    options = choice.options
    if len(options) > 1 and all(isinstance(o, int | float) for o in options):
        numbers = [float(o) for o in options]
        steps = {round(b - a, 9) for a, b in itertools.pairwise(numbers)}
        if len(steps) == 1 and min(steps) > 0:
            if all(isinstance(o, int) for o in options):
                return IntDistribution(int(numbers[0]), int(numbers[-1]), step=round(min(steps)))
            return FloatDistribution(numbers[0], numbers[-1], step=min(steps))
    return CategoricalDistribution(options)
