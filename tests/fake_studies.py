"""Synthetic studies: two genes, a random sampler, and no training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nas import registry
from nas.searcher.assembly import make_study
from nas.searcher.study import Study
from search_spaces._base import Choice
from tests.fake_runs import a_run

CHOICES = (Choice(name="width", options=(8, 16, 24)), Choice(name="operation", options=("conv", "pool")))


def a_study(runs: Path, initial_picks: Sequence[dict[str, Any]] = (), **fields: Any) -> Study:
    """The study of a run without records, with these configuration fields."""
    folder = a_run(runs, records=[], **fields)
    return make_study(folder, folder.config, CHOICES, registry.load("sampler", "random"), initial_picks=initial_picks)
