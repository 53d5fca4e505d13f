"""Studies of run folders made by hand: two genes, random picks, and no training at all."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nas import registry
from nas.searcher.study import Study
from search_spaces._base import Choice
from tests.fake_runs import a_run

CHOICES = (Choice(name="width", options=(8, 16, 24)), Choice(name="operation", options=("conv", "pool")))


def a_study(runs: Path, seeds: Sequence[dict[str, Any]] = (), **fields: Any) -> Study:
    folder = a_run(runs, records=[], **fields)
    return Study(folder, folder.config, CHOICES, registry.load("sampler", "random"), initial_picks=seeds)
