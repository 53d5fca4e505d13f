"""Where a run keeps its Optuna study: a journal file in the run folder, or a storage that several hosts share."""

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
    """Optuna's own locks are files, which a process that is killed leaves behind: all others then wait for 30 s."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder, self._held = folder, ExitStack()

    def acquire(self) -> bool:
        return self._held.enter_context(self._folder.lock("journal", wait=True))

    def release(self) -> None:
        self._held.close()


def open_storage(folder: Path, url: str | None) -> BaseStorage:
    """The storage of a run: a URL, or the journal file in its folder.

    Raises:
        ConfigError: the URL names a storage that cannot be opened.
    """
    if url is None:
        lock = _JournalLock(RunFolder(folder))
        return JournalStorage(JournalFileBackend(str(folder / JOURNAL_FILE), lock_obj=lock))  # type: ignore[arg-type]
    try:
        return get_storage(url)
    except Exception as error:  # SQLAlchemy and its drivers raise whatever they like
        raise ConfigError(f"storage must be a URL that Optuna can open, but {url!r} gave: {one_line(error)}") from None


def picks_by_key(folder: RunFolder) -> dict[str, dict[str, Value]]:
    """Candidate key to the picks of the trial that first stood for it, of a run that is over or goes on.

    Raises:
        ConfigError: the run's storage cannot be opened, or holds no study of it.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    name = folder.config.run_name
    try:
        study = optuna.load_study(study_name=name, storage=open_storage(folder.path, folder.config.run.storage))
    except KeyError:
        raise ConfigError(f"the storage of {folder.path} must hold its study {name!r}, but has none") from None
    trials = [t for t in study.get_trials(deepcopy=False) if "key" in t.user_attrs]
    return {t.user_attrs["key"]: dict(t.params) for t in reversed(trials)}
