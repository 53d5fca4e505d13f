"""View of a run for optuna-dashboard: its records and trials as a study that cannot be written.

What a sampler is told differs from what a reader should see: Optuna has no value for "never evaluated", so candidates
that violate a constraint before any training are told an accuracy of 0. Here they are pruned, without values, and say
why; so are those whose values break a constraint. Verified figures, provenance and files are attributes and artifacts.
"""

import threading
import time
from collections.abc import Container, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from optuna import load_study
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState

from nas.config import OBJECTIVES
from nas.dashboard.artifacts import Artifact, RunArtifacts
from nas.errors import ConfigError
from nas.reporting.model_card import describe_latency
from nas.results.data_facts import read_data_facts
from nas.results.front import compute_fronts, latest_by_key
from nas.results.front_table import table_rows
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.searcher.storage import JOURNAL_FILE, open_storage

STUDY_ID = 1
MAX_TRIALS = 1000
"""Trials that are shown beside the front: pages with thousands of trials of fifty genes take minutes to load."""
REFRESH_S = 2.0
_VERIFIED_COLUMNS = (
    "accuracy", "accuracy_low", "accuracy_high", "test_accuracy", "test_low", "test_high", "latency_ms",
    "latency_low_ms", "latency_high_ms", "latency_kind", "host_latency_ms", "epochs", "size_bytes", "model", "sha256",
)  # fmt: skip


class StudyView(BaseStorage):
    """One run as a read-only study, which follows a search in progress.

    Every method that would write raises `ConfigError`.

    Args:
        folder: the run.
        artifacts: where the run's files are put when they are first shown.
        command: the command line of the run, an attribute of the study.

    Raises:
        ConfigError: the storage or a record of the run cannot be read.
    """

    def __init__(self, folder: RunFolder, artifacts: RunArtifacts, *, command: str = "") -> None:
        self._folder, self._artifacts, self._command = folder, artifacts, command
        self._config = folder.config
        self._objectives = self._config.search.objectives
        self._directions = [
            StudyDirection.MAXIMIZE if OBJECTIVES[o] else StudyDirection.MINIMIZE for o in self._objectives
        ]
        self._storage = self._open_storage()
        self._lock, self._read_at = threading.Lock(), float("-inf")
        self._first_number: int | None = None
        self._trials: dict[int, FrozenTrial] = {}
        self._built: dict[int, tuple[object, ...]] = {}
        self._study_attrs: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
        self._refresh()

    def get_all_studies(self) -> list[FrozenStudy]:
        """The one study."""
        self._refresh()
        user, system = self._study_attrs
        return [
            FrozenStudy(
                study_name=self._config.run_name, direction=None, directions=self._directions, user_attrs=user,
                system_attrs=system, study_id=STUDY_ID,
            )
        ]  # fmt: skip

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The trials that are shown, in the order of their numbers. They are not copied; do not change them."""
        self._refresh()
        return [t for t in self._trials.values() if states is None or t.state in states]

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """One trial, whose id is its number."""
        return self._trials[trial_id]

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        """The number itself."""
        return self._trials[trial_number].number

    def get_study_id_from_name(self, study_name: str) -> int:
        """The id of the one study."""
        if study_name != self._config.run_name:
            raise KeyError(study_name)
        return STUDY_ID

    def get_study_name_from_id(self, study_id: int) -> str:
        """The name of the one study."""
        return self._config.run_name

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Whether more is better, for each objective."""
        return self._directions

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Facts of the run."""
        return self._study_attrs[0]

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Names of the objectives, and artifacts of the run."""
        return self._study_attrs[1]

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise ConfigError("this view of the run cannot be written; nas dashboard --writable serves the study itself")

    create_new_study = delete_study = set_study_user_attr = set_study_system_attr = create_new_trial = _refuse
    set_trial_param = set_trial_state_values = set_trial_intermediate_value = _refuse
    set_trial_user_attr = set_trial_system_attr = _refuse

    def _open_storage(self) -> BaseStorage | None:
        """The run's storage; None before it has one, so that looking at a run writes nothing."""
        url = self._config.run.storage
        if url is None and not (self._folder.path / JOURNAL_FILE).exists():
            return None
        return open_storage(self._folder.path, url)

    def _refresh(self) -> None:
        with self._lock:
            if time.monotonic() - self._read_at >= REFRESH_S:
                self._read()
                self._read_at = time.monotonic()

    def _read(self) -> None:
        records = self._folder.records()
        asked = {t.number: t for t in self._asked_trials()}
        searched = {r.trial: r for r in records if r.phase == "search"}
        verified = {r.key: r for r in latest_by_key(records, "verified")}
        fronts = compute_fronts(records, self._objectives)
        on_front = {r.key: "search" for r in fronts.search} | {r.key: "verified" for r in fronts.verified}
        by_key = {r.key: r for r in searched.values()}
        numbers = sorted(asked.keys() | searched.keys())
        if self._first_number is None:  # what is shown never shrinks: the page asks for trials by their places
            self._first_number = numbers[-MAX_TRIALS] if len(numbers) > MAX_TRIALS else 0
        members = {r.trial for r in searched.values() if r.key in on_front or r.key in verified}
        shown = [n for n in numbers if n >= self._first_number or n in members or n in self._trials]
        artifacts = self._artifacts.of_run()
        for number in shown:
            trial = asked.get(number)
            key = trial.user_attrs.get("key") if trial is not None else None
            record = searched.get(number) or (by_key.get(key) if isinstance(key, str) else None)
            full = verified.get(record.key) if record else None
            front = on_front.get(record.key) if record else None
            version = (trial.state if trial else None, record, full, front)
            if self._built.get(number) != version:
                files = [a for r in (record, full) if r for a in self._artifacts.of_record(r)]
                self._trials[number] = self._view(number, trial, record, full, front=front, files=files)
                self._built[number] = version
                artifacts += files
        self._artifacts.publish(artifacts)
        self._trials = dict(sorted(self._trials.items()))
        self._study_attrs = self._facts(records, len(numbers))

    def _asked_trials(self) -> list[FrozenTrial]:
        self._storage = self._storage or self._open_storage()
        if self._storage is None:
            return []
        try:
            study = load_study(study_name=self._config.run_name, storage=self._storage)
        except KeyError:  # deleted; the records are there all the same
            return []
        return study.get_trials(deepcopy=False)

    def _view(
        self,
        number: int,
        trial: FrozenTrial | None,
        record: Record | None,
        verified: Record | None,
        *,
        front: str | None,
        files: Sequence[Artifact],
    ) -> FrozenTrial:
        values = [record.objective(o) for o in self._objectives] if record is not None else []
        known = [v for v in values if v is not None]
        state = _state(trial, record, is_valued=bool(values) and len(known) == len(values))
        started, ended = _times(trial, record)
        return FrozenTrial(
            number=number,
            state=state,
            value=None,
            values=known if state == TrialState.COMPLETE else None,
            datetime_start=started,
            datetime_complete=ended if state.is_finished() else None,
            params=dict(trial.params) if trial else {},
            distributions=dict(trial.distributions) if trial else {},
            user_attrs=_attributes(number, trial, record, verified, front=front),
            system_attrs=dict(artifact.attribute() for artifact in files),
            intermediate_values={},
            trial_id=number,
        )

    def _facts(self, records: Sequence[Record], n_trials: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """User attributes and system attributes of the study."""
        config = self._config
        data = read_data_facts(self._folder)
        target = self._folder.read_json("target.json")
        latencies = {f"{r.latency.kind} on {r.latency.device} ({r.latency.runtime})" for r in records if r.latency}
        limits = {name: value for name, value in config.limits.model_dump().items() if value is not None}
        user: dict[str, Any] = {
            "command": self._command,
            "target": f"{config.search.target}: {target.get('title', '')}".rstrip(": "),
            "latencies": "; ".join(sorted(latencies)) or "none yet",
            "limits": ", ".join(f"{name} {value:g}" for name, value in limits.items()) or "none",
            "subject": config.subject,
            "data": f"{data['name']}{', synthetic faces' if data.get('synthetic') else ''}",
            "data_digest": data.get("digest", ""),
            "shown": f"{len(self._trials)} of {n_trials} trials"
            + ("" if len(self._trials) == n_trials else f": the front, and the last {MAX_TRIALS} and later"),
        }
        attributes = (artifact.attribute() for artifact in self._artifacts.of_run())
        return user, {"study:metric_names": list(self._objectives), **dict(attributes)}


def _state(trial: FrozenTrial | None, record: Record | None, *, is_valued: bool) -> TrialState:
    if record is None:
        # A trial is told after its record is written, so one that is complete without a record has lost it.
        is_open = trial is not None and not trial.state.is_finished()
        return trial.state if trial is not None and is_open else TrialState.FAIL
    if record.status == "failed":
        return TrialState.FAIL
    is_feasible = record.status == "complete" and all(v <= 0 for v in record.violations.values())
    return TrialState.COMPLETE if is_feasible and is_valued else TrialState.PRUNED


def _times(trial: FrozenTrial | None, record: Record | None) -> tuple[datetime | None, datetime | None]:
    """When a trial began and ended, local time; from the record where there is no trial."""
    if trial is not None and trial.datetime_start is not None:
        return trial.datetime_start, trial.datetime_complete or trial.datetime_start
    if record is None or not record.finished:
        return None, None
    ended = datetime.fromtimestamp(record.finished_at_s)
    return datetime.fromtimestamp(record.finished_at_s - sum(record.seconds.values())), ended


def _attributes(
    number: int, trial: FrozenTrial | None, record: Record | None, verified: Record | None, *, front: str | None
) -> dict[str, Any]:
    """What is known of a trial, with the figures of full training under names of their own."""
    if record is None:
        reason = trial.user_attrs.get("reason") if trial is not None else None
        lost = trial is not None and trial.state == TrialState.COMPLETE
        return {"reason": reason or ("records.jsonl has no record of it" if lost else "")} if reason or lost else {}
    (row,) = table_rows([record])
    found: dict[str, Any] = {"status": record.status, "reason": record.reason, "front": front}
    found |= {"duplicate_of": record.trial if record.trial != number else None, "accuracy": row["accuracy"]}
    found |= _provenance("latency", record)
    if verified is not None:  # before the many others, because the page shows the first six
        (full,) = table_rows([verified])
        found |= {f"verified_{name}": full[name] for name in _VERIFIED_COLUMNS}
        found |= _provenance("verified_latency", verified)
    found |= {name: value for name, value in row.items() if name not in ("trial", "phase")}
    found |= {f"violation.{name}": value for name, value in record.violations.items()}
    return {name: value for name, value in found.items() if value not in (None, "")}


def _provenance(name: str, record: Record) -> Mapping[str, str]:
    return {name: describe_latency(record.latency.to_dict())} if record.latency is not None else {}
