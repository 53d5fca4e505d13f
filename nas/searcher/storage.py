"""Storage of a run's Optuna study: a journal file in the run folder, or a database that several hosts share."""

from contextlib import ExitStack
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage, get_storage
from optuna.storages.journal import JournalFileBackend

from nas.errors import ConfigError, one_line
from nas.results.run_folder import RunFolder
from search_spaces._base import Value

JOURNAL_FILE = "journal.log"


class _JournalLock:
    """Lock of the journal that a killed process releases.

    Optuna's own locks are files: one that a killed process leaves behind makes all others wait for 30 s.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder, self._held = folder, ExitStack()

    def acquire(self) -> bool:
        return self._held.enter_context(self._folder.lock("journal", wait=True))

    def release(self) -> None:
        self._held.close()


def open_storage(folder: Path, url: str | None) -> BaseStorage:
    """The storage of a run: that of a URL, or the journal file in its folder where `url` is None.

    Raises:
        ConfigError: Optuna cannot open a storage at the URL.
    """
    if url is None:
        lock = _JournalLock(RunFolder(folder))
        return JournalStorage(JournalFileBackend(str(folder / JOURNAL_FILE), lock_obj=lock))  # type: ignore[arg-type]
    try:
        return get_storage(url)
    except Exception as error:  # exceptions of SQLAlchemy and its drivers share no base class
        raise ConfigError(f"storage must be a URL that Optuna can open, but {url!r} gave: {one_line(error)}") from None


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
    trials = [t for t in study.get_trials(deepcopy=False) if "key" in t.user_attrs]
    # Reversed, so that of several trials of one candidate the first one stays.
    return {t.user_attrs["key"]: dict(t.params) for t in reversed(trials)}
