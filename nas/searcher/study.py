"""Study: the Optuna study of a run, driven by ask and tell.

The driver alone uses it. Trials that are still running when it begins were left by a driver that died: `left` returns
them under their own numbers, so that no trial is lost and none stays running.
"""

import itertools
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
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
from optuna.trial import FrozenTrial, TrialState

from nas.config import OBJECTIVES, RunFields, SearchFields, TrainingFields, without_password
from nas.errors import ConfigError
from nas.results.false_failures import is_false_failure
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.searcher.acquisition.base import EMPTY_CONTEXT, EXHAUSTED, LOW_FIDELITY, LOW_FIDELITY_ONLY, SamplerContext
from nas.searcher.acquisition.cache import SamplerCache
from nas.searcher.gene_importance import gene_importance
from nas.searcher.pending_trial import PendingTrial, only_value
from nas.searcher.promotion import RungResults
from nas.searcher.resume_check import check_not_lost
from nas.searcher.storage import open_storage
from search_spaces._base import Choice, Value

logger = logging.getLogger(__name__)

RETRY_OF = "retry_of"
"""User attribute of a trial that repeats one which failed for no fault of its own: the number of that trial."""
IDENTITY = "run"
"""User attribute of a study in a storage that other runs may use: what its runs have in common."""
MAXIMIZE, MINIMIZE = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE
WORST_VALUES = {"accuracy": 0.0}
"""Value told for an objective that was not evaluated because a constraint was violated first; 0 for the others."""


@dataclass(frozen=True, kw_only=True)
class AskedTrial:
    """A trial that runs.

    Attributes:
        number: of the trial.
        picked: a value for each gene.
        trial: Optuna's object.
        is_exhausted: whether it repeats earlier gene values because the sampler found no others.
    """

    number: int
    picked: dict[str, Value]
    trial: optuna.Trial
    is_exhausted: bool = False


class Study:
    """The Optuna study of one run.

    Life: made once; each trial is got from `left` or `ask`, and ended with `tell` or `fail`. Several may run at once.
    Promises:

    - gene values depend on the seed, the trial's number and the trials before it alone;
    - a duplicate of an evaluated candidate is told the values of the first.

    Args:
        folder: the run.
        choices: all genes.
        make_sampler: (seed, context) to an Optuna sampler.
        name: of the study in its storage.
        search: the objectives, in order.
        training: the rungs.
        run: seed and storage.
        rung_results: results of candidates at their rungs, for samplers that use the first rung as a low fidelity.
        initial_picks: gene values that are evaluated first; ignored by a study that has trials already.
        context: what is known of gene values before they are evaluated, for the sampler.
        identity: what all runs that share the study have in common, where it is in a storage of its own. A journal in
            the run folder needs none, because the folder holds one run.

    Raises:
        ConfigError: the storage cannot be opened, or its study is another run's, or has other objectives or other
            options for a gene.
    """

    def __init__(
        self,
        folder: RunFolder,
        choices: Sequence[Choice],
        make_sampler: Any,
        *,
        name: str,
        search: SearchFields,
        training: TrainingFields,
        run: RunFields,
        rung_results: RungResults,
        initial_picks: Sequence[Mapping[str, Value]] = (),
        context: SamplerContext = EMPTY_CONTEXT,
        identity: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.folder, self.objectives, self._n_rungs = folder, search.objectives, len(training.rungs)
        self._rung_results = rung_results
        self.choices = {c.name: c for c in choices}
        self.distributions = {c.name: to_distribution(c) for c in choices}
        self._context = replace(context, space=self.distributions, cache=SamplerCache())
        directions = [MAXIMIZE if OBJECTIVES[o] else MINIMIZE for o in search.objectives]
        self._storage = open_storage(folder.path, run.storage)
        try:
            self._study = optuna.create_study(
                study_name=name, storage=self._storage, directions=directions, load_if_exists=True
            )
        except optuna.exceptions.StorageInternalError as error:
            raise ConfigError(f"the study's storage cannot be used: {error}") from None
        if self._study.directions != directions:
            storage = without_password(run.storage or "the run folder")
            raise ConfigError(f"study {name!r} in {storage} has other objectives; give this run a --name")
        check_not_lost(folder, self._study.get_trials(deepcopy=False))
        if run.storage is not None:
            self._check_identity(identity)
        self._check_genes()
        self._make_sampler, self._seed = make_sampler, run.seed
        if all(t.state == TrialState.WAITING for t in self._study.get_trials(deepcopy=False)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                self._study.set_metric_names(list(search.objectives))
            # Again if all trials are waiting: a process may have died between two of them.
            for picked in initial_picks:
                fixed = {k: v for k, v in picked.items() if k in self.choices}
                self._study.enqueue_trial(fixed, skip_if_exists=True)

    def _check_identity(self, identity: Mapping[str, Any]) -> None:
        """Refuse the study of another run that has the same name in the same storage. A new study gets this identity.

        A study of an earlier version has none and gets it too. Fields that only one version knows do not count.
        """
        before = self._study.user_attrs.get(IDENTITY)
        if before is None:
            self._study.set_user_attr(IDENTITY, dict(identity))
            return
        differences = [
            f"{field}: {before[field]!r} there, {value!r} asked"
            for field, value in identity.items()
            if field in before and before[field] != value
        ]
        if differences:
            raise ConfigError(
                f"study {self._study.study_name!r} in the storage is of another run ({'; '.join(differences)}); give "
                "this run a --name of its own"
            )

    def _check_genes(self) -> None:
        """Refuse to resume a study that was started with other options for a gene."""
        for trial in self._study.get_trials(deepcopy=False):
            for name, old in trial.distributions.items():
                try:
                    check_distribution_compatibility(old, self.distributions.get(name, old))
                except ValueError:
                    raise ConfigError(
                        f"gene {name} must keep its options, but this run was started with {_format_options(old)} and "
                        f"now has {self.choices[name].options}; it can still be read: give the new run a --name"
                    ) from None

    def left(self) -> list[AskedTrial]:
        """Trials that a driver which died has left running, in order."""
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [self._suggest_missing(trial) for trial in running]

    def ask(self) -> AskedTrial:
        """The next trial."""
        trials = self._study.get_trials(deepcopy=False)
        number = min((t.number for t in trials if t.state == TrialState.WAITING), default=len(trials))
        self._study.sampler = self._sampler(number)
        if number < len(trials):  # it was enqueued
            return self._suggest_all(self._study.ask())
        return self._create(number)

    def tell(self, asked: AskedTrial, record: Record) -> None:
        """Report a record to Optuna: a failed candidate as failed, a duplicate with the values of the first."""
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
        # A process may have died after it set some of them, and Optuna warns of a constraint that is set twice.
        for name in record.violations.keys() - asked.trial.constraints.keys():
            asked.trial.set_constraint(name, record.violations[name])
        values = [record.objective(o) for o in self.objectives]
        complete = [WORST_VALUES.get(o, 0.0) if v is None else v for o, v in zip(self.objectives, values, strict=True)]
        self._study.tell(asked.trial, complete, skip_if_finished=True)

    def _low_fidelity_attrs(self, record: Record) -> dict[str, Any]:
        """Trial attributes with the candidate's result at the first rung; empty where it has none."""
        accuracy = self._rung_results.first_rung_accuracy(record.key)
        if accuracy is None:
            return {}
        values = [accuracy if o == "accuracy" else None for o in self.objectives]
        return {LOW_FIDELITY: values, LOW_FIDELITY_ONLY: record.rung < self._n_rungs}

    def enqueue(self, picked: Mapping[str, Value]) -> None:
        """Evaluate these gene values soon, unless a trial has them already. Genes of other names are ignored."""
        known = {name: value for name, value in picked.items() if name in self.choices}
        self._study.enqueue_trial(known, skip_if_exists=True)

    def retry_false_failures(self) -> None:
        """Evaluate again soon what an earlier version failed for no fault of its own, see `nas.results.false_failures`.

        Each such trial is repeated once, as a trial with a number of its own.
        """
        trials = self._study.get_trials(deepcopy=False)
        passed = {t.user_attrs.get(RETRY_OF) for t in trials}
        passed |= {t.number for t in trials if "duplicate_of" in t.user_attrs}
        for trial in trials:
            is_false = trial.state == TrialState.FAIL and is_false_failure(trial.user_attrs.get("reason", ""))
            if is_false and trial.number not in passed and self.choices.keys() <= trial.params.keys():
                logger.warning("trial %d is tried again: it failed for no fault of its own", trial.number)
                picked = {name: trial.params[name] for name in self.choices}
                self._study.enqueue_trial(picked, user_attrs={RETRY_OF: trial.number})

    def fail(self, asked: AskedTrial, reason: str) -> None:
        """End a trial as failed, without a record."""
        asked.trial.set_user_attr("reason", reason)
        self._study.tell(asked.trial, state=TrialState.FAIL, skip_if_finished=True)

    def importance(self) -> dict[str, dict[str, float]]:
        """Objective to gene to importance, 0..1, see `nas.searcher.gene_importance`."""
        return gene_importance(self._study, self.objectives)

    def _suggest_missing(self, left: FrozenTrial) -> AskedTrial:
        logger.info("trial %d was left by a driver that died; resuming it", left.number)
        self._study.sampler = self._sampler(left.number)
        return self._suggest_all(optuna.trial.Trial(self._study, left._trial_id))

    def _suggest_all(self, trial: optuna.Trial) -> AskedTrial:
        """Suggest all genes of a trial that exists.

        Each gene has a sampler with a seed of its own, so that a driver may die between any two genes and the next one
        draws the same values.
        """
        _ = trial.relative_params  # draws the joint values now; the trial stores them
        picked = {}
        for index, name in enumerate(self.choices, start=1):
            self._study.sampler = self._sampler(trial.number, index)
            picked[name] = self._option(name, self._suggest(trial, name))
        is_exhausted = bool(self._storage.get_trial(trial._trial_id).system_attrs.get(EXHAUSTED))
        return AskedTrial(number=trial.number, picked=picked, trial=trial, is_exhausted=is_exhausted)

    def _create(self, number: int) -> AskedTrial:
        """Draw all genes of a new trial, then write it as a whole: one access to the storage in place of one a gene."""
        draft = PendingTrial(self._study, number)
        sampler = self._sampler(number)
        sampler.before_trial(draft.study, draft.trial)
        space = sampler.infer_relative_search_space(draft.study, draft.trial)
        joint = sampler.sample_relative(draft.study, draft.trial, space)
        params: dict[str, Any] = {}
        for index, (name, distribution) in enumerate(self.distributions.items(), start=1):
            if distribution.single():
                params[name] = only_value(distribution)
            elif name in joint:
                params[name] = joint[name]
            else:
                independent = self._sampler(number, index)
                params[name] = independent.sample_independent(draft.study, draft.trial, name, distribution)
            draft.trial.params[name], draft.trial.distributions[name] = params[name], distribution
        trial = draft.create(params, self.distributions)
        picked = {name: self._option(name, value) for name, value in params.items()}
        is_exhausted = bool(draft.trial.system_attrs.get(EXHAUSTED))
        return AskedTrial(number=number, picked=picked, trial=trial, is_exhausted=is_exhausted)

    def _sampler(self, *numbers: int) -> optuna.samplers.BaseSampler:
        sampler: optuna.samplers.BaseSampler = self._make_sampler(derive_seed(self._seed, *numbers), self._context)
        return sampler

    def _suggest(self, trial: optuna.Trial, name: str) -> Any:
        match self.distributions[name]:
            case CategoricalDistribution() as d:
                return trial.suggest_categorical(name, d.choices)
            case IntDistribution() as d:
                return trial.suggest_int(name, d.low, d.high, step=d.step)
            case FloatDistribution() as d:
                return trial.suggest_float(name, d.low, d.high, step=d.step)
        raise TypeError(
            f"gene {name} must have a distribution of `to_distribution`, but has {self.distributions[name]}"
        )

    def _option(self, name: str, value: Any) -> Value:
        """The option of a gene: a float grid is off by rounding errors, but a candidate's key is made of the option."""
        options = self.choices[name].options
        return value if isinstance(value, str) else min(options, key=lambda o: abs(float(o) - float(value)))


def _format_options(distribution: BaseDistribution) -> str:
    return str(distribution.choices) if isinstance(distribution, CategoricalDistribution) else str(distribution)


def derive_seed(*numbers: int) -> int:
    """A sampler's seed, 0..2**32 - 1, from the run's seed, the trial's number and, if given, the gene's number."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def to_distribution(choice: Choice) -> BaseDistribution:
    """The Optuna distribution of a choice: ordered for evenly spaced ascending numbers, otherwise categorical."""
    options = choice.options
    if len(options) > 1 and all(isinstance(o, int | float) for o in options):
        numbers = [float(o) for o in options]
        steps = {round(b - a, 9) for a, b in itertools.pairwise(numbers)}  # 0.3 - 0.2 is not 0.2 - 0.1
        if len(steps) == 1 and min(steps) > 0:
            if all(isinstance(o, int) for o in options):
                return IntDistribution(int(numbers[0]), int(numbers[-1]), step=round(min(steps)))
            return FloatDistribution(numbers[0], numbers[-1], step=min(steps))
    return CategoricalDistribution(options)
