"""What the study of a run holds, as Optuna reads it."""

import optuna
from optuna.trial import FrozenTrial

from nas.results.run_folder import RunFolder
from nas.searcher.storage import open_storage


def study_of(folder: RunFolder, storage: str | None = None) -> optuna.Study:
    """The study of a run: in its journal, or in the storage of this address."""
    return optuna.load_study(study_name=folder.config.run_name, storage=open_storage(folder.path, storage))


def trials_of(folder: RunFolder, storage: str | None = None) -> list[FrozenTrial]:
    """All trials of a run, in the order they were asked."""
    return study_of(folder, storage).get_trials()
