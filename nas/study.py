"""Optuna, ask and tell: the study of a run, safe against processes that die and processes beside this one.

A trial is worked on by the process that holds its lock. A trial that is still running and whose lock nobody holds was
left by a process that died: the next `ask` hands it out again, under its own number, so none is lost and none is left.
"""

import itertools
import logging
import platform
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage, JournalStorage, get_storage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import TrialState

from nas.config import OBJECTIVES, SearchConfig
from nas.errors import ConfigError
from nas.records import Record, RunFolder
from search_spaces._base import Choice, Value

logger = logging.getLogger(__name__)

JOURNAL = "journal.log"
MAXIMIZE, MINIMIZE = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE
WORST = {"accuracy": 0.0}
"""What is told for an objective that was not evaluated, because a constraint was broken before."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A trial that this process holds: its number and its picks."""

    number: int
    picked: dict[str, Value]
    trial: optuna.Trial


class Study:
    """The Optuna study of one run.

    Args:
        folder: the run.
        config: what was asked.
        choices: all genes.
        make_sampler: seed to sampler.
        seeds: picks that are asked first.

    Raises:
        ConfigError: the storage cannot be reached, or its study has other objectives.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: SearchConfig,
        choices: Sequence[Choice],
        make_sampler: Any,
        seeds: Sequence[Mapping[str, Value]] = (),
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.folder, self.objectives = folder, config.objectives
        self.choices = {c.name: c for c in choices}
        self.distributions = {c.name: distribution(c) for c in choices}
        directions = [MAXIMIZE if OBJECTIVES[o] else MINIMIZE for o in config.objectives]
        with folder.claim("ask", wait=True):
            self._storage = open_storage(folder.path, config.storage)
            try:
                self._study = optuna.create_study(
                    study_name=config.run_name, storage=self._storage, directions=directions, load_if_exists=True
                )
            except optuna.exceptions.StorageInternalError as error:
                raise ConfigError(f"storage {config.storage} cannot be used: {error}") from None
            if self._study.directions != directions:
                raise ConfigError(
                    f"study {config.run_name!r} in {config.storage} has other objectives; give this run a --name"
                )
            self._make_sampler, self._seed = make_sampler, config.seed
            if not self._study.get_trials(deepcopy=False):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                    self._study.set_metric_names(list(config.objectives))
                for picked in seeds:
                    self._study.enqueue_trial({k: v for k, v in picked.items() if k in self.choices})

    def ask(self, held: ExitStack) -> Ask:
        """The next trial: one that a dead process left, or a new one. Its lock is held until `held` closes."""
        with self.folder.claim("ask", wait=True):
            for left in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                ours = left.user_attrs.get("host", platform.node()) == platform.node()
                if ours and held.enter_context(self.folder.claim(f"trial-{left.number}")):
                    logger.info("trial %d was left by a process that died; it goes on", left.number)
                    trial = optuna.trial.Trial(self._study, left._trial_id)
                    break
            else:
                # A fresh sampler for each trial: what is asked depends on the history alone, not on restarts.
                number = len(self._study.get_trials(deepcopy=False))
                self._study.sampler = self._make_sampler(seed_of(self._seed, number))
                trial = self._study.ask()
                held.enter_context(self.folder.claim(f"trial-{trial.number}"))
            trial.set_user_attr("host", platform.node())
            picked = {name: self._suggest(trial, name) for name in self.choices}
        return Ask(number=trial.number, picked=picked, trial=trial)

    def tell(self, ask: Ask, record: Record) -> None:
        """Hand the outcome to Optuna: a failed candidate as failed, a duplicate with the values of the first."""
        attributes: dict[str, Any] = {"key": record.key, "status": record.status}
        if record.trial != ask.number:
            attributes["duplicate_of"] = record.trial
        if record.reason:
            attributes["reason"] = record.reason
        if record.latency:
            attributes["latency_kind"] = f"{record.latency.kind}, {record.latency.device}"
        attributes |= {"epochs": round(record.epochs, 2), "macs": record.macs, "model": record.model}
        for name, value in attributes.items():
            ask.trial.set_user_attr(name, value)
        if record.status == "failed":
            self._study.tell(ask.trial, state=TrialState.FAIL, skip_if_finished=True)
            return
        # optuna-dashboard up to 0.21 reads only the older attribute, so both are written.
        self._storage.set_trial_system_attr(ask.trial._trial_id, "constraints", list(record.violations.values()))
        for name, amount in record.violations.items():
            ask.trial.set_constraint(name, amount)
        values = [record.objective(o) for o in self.objectives]
        told = [WORST.get(o, 0.0) if v is None else v for o, v in zip(self.objectives, values, strict=True)]
        self._study.tell(ask.trial, told, skip_if_finished=True)

    def skip(self, ask: Ask, reason: str) -> None:
        """Give a trial up without a record."""
        ask.trial.set_user_attr("reason", reason)
        self._study.tell(ask.trial, state=TrialState.FAIL, skip_if_finished=True)

    def importance(self) -> dict[str, dict[str, float]]:
        """Objective to gene to share of the variance it explains, by Optuna's PED-ANOVA; empty with few trials."""
        done = [t for t in self._study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE]
        if len(done) < 8:
            return {}
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        found = {}
        for index, objective in enumerate(self.objectives):

            def value(trial: optuna.trial.FrozenTrial, index: int = index) -> float:
                return float(trial.values[index])

            try:
                found[objective] = optuna.importance.get_param_importances(
                    self._study, evaluator=evaluator, target=value
                )
            except (ValueError, RuntimeError) as error:  # every gene constant, or too few distinct values
                logger.info("no importance for %s: %s", objective, error)
        return found

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


def seed_of(seed: int, number: int) -> int:
    """The sampler's seed for one trial, 0..2**32 - 1."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def distribution(choice: Choice) -> BaseDistribution:
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


def open_storage(folder: Path, url: str | None) -> BaseStorage:
    """The storage of a run: a URL, or the journal file in its folder.

    Raises:
        ConfigError: the URL names a storage that cannot be opened.
    """
    if url is None:
        return JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    try:
        return get_storage(url)
    except Exception as error:  # SQLAlchemy and its drivers raise whatever they like
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"storage must be a URL that Optuna can open, but {url!r} gave: {reason}") from None
