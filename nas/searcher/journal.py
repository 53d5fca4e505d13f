"""Journal of an Optuna study that is opened in seconds after 10,000 trials, in Optuna's own format.

Optuna's classes read the same file into the same trials. Different here is the time:

- The distributions of a trial are most of its line and nearly always those of the trial before. The bytes are compared,
  and equal ones are not parsed again.
- Equal texts of a distribution become one object, instead of one for each parameter of each trial.
- While the file is read for the first time, nobody holds a trial yet, so lines change it in place. Optuna copies the
  trial and its attributes for each line.
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import optuna.storages.journal._storage as optuna_journal
from optuna.distributions import BaseDistribution, check_distribution_compatibility, json_to_distribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._storage import JournalStorageReplayResult
from optuna.trial import FrozenTrial
from pydantic_core import from_json

from nas.latency.measured.gc_control import gc_paused

_parse_distribution = cache(json_to_distribution)
# Nothing changes a distribution, so trials may share it. Optuna's replay looks the function up in its module.
optuna_journal.json_to_distribution = _parse_distribution  # type: ignore[attr-defined]

_FIELD, _NEXT_FIELD = b'"distributions":', b',"params":'


class FastJournalBackend(JournalFileBackend):
    """Journal file whose lines are parsed without the parts that repeat."""

    _seen: tuple[bytes, dict[str, str]] = b"", {}
    _position: tuple[int, int] = 0, 0
    """Number of the next line, and its offset. Optuna's own table holds the offset of every line."""

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """The lines from a number on, without a last one that is incomplete or no JSON.

        Raises:
            ValueError: a line before the last one is no JSON.
        """
        number, offset = self._position if self._position[0] <= log_number_from else (0, 0)
        error: ValueError | None = None
        with Path(self._file_path).open("rb") as file:
            file.seek(offset)
            for line in file:
                if error is not None:
                    raise error
                if not line.endswith(b"\n"):
                    return
                number, offset = number + 1, offset + len(line)
                if number > log_number_from:
                    try:
                        log = self._parse(line)
                    except ValueError as found:
                        error = found
                        continue
                    self._position = number, offset
                    yield log

    def _parse(self, line: bytes) -> dict[str, Any]:
        # A quotation mark within a string is escaped, so the first match is the field.
        start = line.find(_FIELD) + len(_FIELD)
        if start < len(_FIELD):
            return _loads(line)
        known, distributions = self._seen
        if known and line.startswith(known, start):
            end = start + len(known) - len(_NEXT_FIELD)
            return {**_loads(line[:start] + b"{}" + line[end:]), "distributions": distributions}
        log = _loads(line)
        end = line.find(_NEXT_FIELD, start)
        if end > start and isinstance(log.get("distributions"), dict):
            self._seen = line[start : end + len(_NEXT_FIELD)], log["distributions"]
        return log


class FastJournalStorage(JournalStorage):
    """Optuna's journal storage, with a faster first reading."""

    def _sync_with_backend(self) -> None:
        if self._replay_result.log_number_read:
            super()._sync_with_backend()
            return
        replay = _FirstReplay(self._worker_id_prefix)
        with gc_paused():
            replay.apply_logs(self._backend.read_logs(0))
        replay.__class__ = JournalStorageReplayResult  # type: ignore[assignment]  # copies a trial before it changes it
        self._replay_result = replay


class _FirstReplay(JournalStorageReplayResult):
    """Replay of a journal before anyone holds its trials."""

    def __init__(self, worker_id_prefix: str) -> None:
        super().__init__(worker_id_prefix)
        self._compatible: dict[tuple[int, int], bool] = {}

    def _apply_set_trial_param(self, log: dict[str, Any]) -> None:
        if (trial := self._find_running(log)) is None:
            return
        name, distribution = log["param_name"], _parse_distribution(log["distribution"])
        earlier = self._study_id_to_trial_ids[self._trial_id_to_study_id[log["trial_id"]]]
        # As Optuna does, the first trial with the parameter decides.
        first = next((old for i in earlier if (old := self._trials[i]._distributions.get(name))), distribution)
        if self._are_compatible(first, distribution):
            trial._params[name] = distribution.to_external_repr(log["param_value_internal"])
            trial._distributions[name] = distribution

    def _apply_set_trial_user_attr(self, log: dict[str, Any]) -> None:
        if (trial := self._find_running(log)) is not None:
            trial._user_attrs.update(log["user_attr"])

    def _apply_set_trial_system_attr(self, log: dict[str, Any]) -> None:
        if (trial := self._find_running(log)) is not None:
            trial._system_attrs.update(log["system_attr"])

    def _find_running(self, log: dict[str, Any]) -> FrozenTrial | None:
        """The trial of a line; None where there is none, or it has ended."""
        return self._trials[log["trial_id"]] if self._trial_exists_and_updatable(log["trial_id"], log) else None

    def _are_compatible(self, old: BaseDistribution, new: BaseDistribution) -> bool:
        places = id(old), id(new)  # of objects that `_parse_distribution` keeps
        if places not in self._compatible:
            try:
                check_distribution_compatibility(old, new)
                self._compatible[places] = True
            except ValueError:
                self._compatible[places] = False
        return self._compatible[places]


def _loads(line: bytes) -> dict[str, Any]:
    try:
        return dict(from_json(line))
    except ValueError:  # half of a surrogate pair, which json takes
        return dict(json.loads(line))
