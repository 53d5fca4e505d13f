"""Studies of run folders made by hand: two genes, random picks, and no training at all."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from nas import registry
from nas.records import RunFolder
from nas.storage import open_storage
from nas.study import Study
from search_spaces._base import Choice
from tests.fake_runs import a_run

CHOICES = (Choice(name="width", options=(8, 16, 24)), Choice(name="operation", options=("conv", "pool")))


def a_study(runs: Path, seeds: Sequence[dict[str, Any]] = (), **fields: Any) -> Study:
    folder = a_run(runs, records=[], **fields)
    return Study(folder, folder.config, CHOICES, registry.load("sampler", "random"), seeds=seeds)


def trials(folder: RunFolder, storage: str | None = None) -> list[FrozenTrial]:
    name = folder.config.run_name
    return optuna.load_study(study_name=name, storage=open_storage(folder.path, storage)).get_trials()
