"""The Optuna study of a run."""

import optuna
from optuna.trial import FrozenTrial

from nas.results.run_folder import RunFolder
from nas.searcher.storage import open_storage


def study_of(folder: RunFolder, storage: str | None = None) -> optuna.Study:
    """The study of a run, from its journal or from the storage at a URL."""
    return optuna.load_study(study_name=folder.config.run_name, storage=open_storage(folder.path, storage))


def trials_of(folder: RunFolder, storage: str | None = None) -> list[FrozenTrial]:
    """All trials of a run, in the order they were created."""
    return study_of(folder, storage).get_trials()
