"""Pending trial: a trial whose params are drawn before it is written, so that it reaches the storage as a whole.

Optuna writes a trial first, and then each param as it is suggested: fifty accesses for the genes of one candidate, and
a trial without params wherever a process dies between them.
"""

import copy
import datetime
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

PENDING_ID = -1
"""Id of a trial that is not stored yet."""


class PendingTrial:
    """A trial that only this object knows until `create`.

    Args:
        study: the study; it is asked by nobody else meanwhile.
        number: of the trial, which is the number of trials so far.

    Attributes:
        study: for samplers: what they store with the trial stays here.
        trial: for samplers.
    """

    def __init__(self, study: optuna.Study, number: int) -> None:
        self._stored = study
        self.trial = FrozenTrial(
            number=number, trial_id=PENDING_ID, state=TrialState.RUNNING, value=None, params={}, distributions={},
            user_attrs={}, system_attrs={}, intermediate_values={}, datetime_start=datetime.datetime.now(),
            datetime_complete=None,
        )  # fmt: skip
        study._thread_local.cached_all_trials = None  # as Optuna does for each trial
        self.study = copy.copy(study)
        self.study._storage = _Overlay(study._storage, self.trial)  # type: ignore[assignment]

    def create(self, params: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]) -> optuna.Trial:
        """Write the trial with these params."""
        self.trial.params, self.trial.distributions = dict(params), dict(distributions)
        # What a sampler remembers of its draw is the params themselves.
        self.trial.system_attrs = {
            name: value for name, value in self.trial.system_attrs.items() if value != self.trial.params
        }
        trial_id = self._stored._storage.create_new_trial(self._stored._study_id, template_trial=self.trial)
        return optuna.Trial(self._stored, trial_id)


class _Overlay:
    """A storage with one trial more than it holds."""

    def __init__(self, storage: optuna.storages.BaseStorage, trial: FrozenTrial) -> None:
        self._storage, self._trial = storage, trial

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return self._trial if trial_id == PENDING_ID else self._storage.get_trial(trial_id)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        if trial_id == PENDING_ID:
            self._trial.system_attrs[key] = value
        else:
            self._storage.set_trial_system_attr(trial_id, key, value)


def only_value(distribution: BaseDistribution) -> Any:
    """The value of a distribution that has a single one."""
    return optuna.distributions._get_single_value(distribution)
