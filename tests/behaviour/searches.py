"""The fixed-seed search: its command, and its figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.behaviour.commands import Figures, figures, give_executions, nas

SEARCH = (
    "search --target jetson --space plain --trials 14 --epochs 2 --rungs 0.5,1 --verify 3 --final-epochs 2 --threads 1 "
    "--workers 1 --device cpu --prune-steps 2 --seed 1 --data-option n=600 --data-option size=32 --name fixed "
    "--runs runs"
)
SEEDED = 8
"""Trials that ask nets known to be good, before the sampler proposes anything."""
FORMS = tuple(
    {"device": "cpu", "memory_format": layout, "precision": precision, "threads": 1}
    for precision in ("fp32", "bf16")
    for layout in ("contiguous", "channels_last")
)
"""Forms of training; each candidate is given one, in turn, as a search would choose among them by timing."""


def search(place: Path, executions: Mapping[str, Any]) -> list[Figures]:
    """The figures of the records of a new search in `place`, its candidates trained in these forms."""
    folder = place / "runs" / "fixed"
    give_executions(folder, executions)
    nas(SEARCH, place=place)
    return figures(folder)
