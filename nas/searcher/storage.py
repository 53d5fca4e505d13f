"""Storage of a run's Optuna study: a journal file in the run folder, or a database."""

from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.storages import BaseStorage

from nas.errors import ConfigError, one_line
from nas.files import regular_file_fault, remove_torn_line
from nas.results.run_folder import RunFolder
from nas.searcher.database import open_database
from nas.searcher.journal import FastJournalBackend, FastJournalStorage
from search_spaces._base import Value

JOURNAL_FILE = "journal.log"
LOCK_POLL_S = 0.01
"""Seconds between two attempts at the journal's lock."""


class _Journal(FastJournalBackend):
    """Journal file without torn lines: one that a writer left when it died is removed before the next is added.

    Optuna's own would append to the torn line, after which no process can read the file.
    """

    def __init__(self, path: Path, lock: "_JournalLock") -> None:
        self._path, self._journal_lock = path, lock
        super().__init__(str(path), lock_obj=lock)  # type: ignore[arg-type]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add lines at the end."""
        with self._journal_lock:
            remove_torn_line(self._path)
        super().append_logs(logs)


class _JournalLock:
    """Lock of the journal that a killed process releases: the driver writes it, and so may a dashboard.

    Optuna's own locks are files: one that a killed process leaves behind makes all others wait for 30 s.
    """

    def __init__(self, folder: Path) -> None:
        self._lock = FileLock(folder / "locks" / "journal.lock", thread_local=False)

    def acquire(self) -> bool:
        self._lock.acquire(poll_interval=LOCK_POLL_S)
        return True

    def release(self) -> None:
        self._lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


def open_storage(folder: Path, url: str | None) -> BaseStorage:
    """The storage of a run: the database at a URL, or the journal file in its folder where `url` is None.

    The folder of a journal may be on a network file system, because only one process at a time writes a run.

    Raises:
        ConfigError: Optuna cannot open a storage at the URL, or the journal is damaged.
        MissingPackageError: the driver for PostgreSQL is not installed.
    """
    return _open_journal(folder) if url is None else open_database(url)


def _open_journal(folder: Path) -> BaseStorage:
    file = folder / JOURNAL_FILE
    if file.exists() and (fault := regular_file_fault(file)) is not None:
        raise ConfigError(f"{file} {fault}; restore it from a copy")
    try:
        return FastJournalStorage(_Journal(file, _JournalLock(folder)))
    except OSError:
        raise
    except Exception as error:  # Optuna raises whatever a line makes of it
        raise ConfigError(
            f"{file} must be the journal of an Optuna study, but is damaged: {one_line(error)}; restore it from a copy "
            "(records.jsonl, which the front is made of, is not affected)"
        ) from None


def picks_by_key(folder: RunFolder) -> dict[str, dict[str, Value]]:
    """Candidate key to the gene values of its first trial, for a run that is finished or still going on.

    Raises:
        ConfigError: the run's storage cannot be opened, or does not hold the run's study.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    config = folder.config
    name = config.run_name
    try:
        study = optuna.load_study(study_name=name, storage=open_storage(folder.path, config.run.storage))
    except KeyError:
        raise ConfigError(f"the storage of {folder.path} must hold its study {name!r}, but has none") from None
    trials = [t for t in study.get_trials(deepcopy=False) if isinstance(t.user_attrs.get("key"), str)]
    # Reversed, so that of several trials of one candidate the first one stays.
    return {t.user_attrs["key"]: dict(t.params) for t in reversed(trials)}
