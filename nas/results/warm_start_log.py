"""Warm start of a run as text: the earlier runs whose results it started with."""

from pathlib import Path
from typing import Any

from nas.errors import ConfigError, one_line
from nas.files import read_json

WARM_START_FILE = "warm_start.json"
"""In the run folder; see `nas.searcher.warm_start`."""


def warm_start_lines(run_dir: Path) -> list[str]:
    """One line for each earlier run that this run was started with; empty without a warm start."""
    file = run_dir / WARM_START_FILE
    if not file.exists():
        return []
    try:
        return [_describe(prior) for prior in read_json(file)]
    except (TypeError, LookupError, AttributeError) as error:
        raise ConfigError(
            f"{file} must be as it was written, but an entry has another form: {one_line(error)}; restore the file"
        ) from None


def _describe(prior: dict[str, Any]) -> str:
    """One earlier run as text; `prior` is one entry of `WARM_START_FILE`."""
    first_rungs = f", first-rung results of {len(prior['stopped'])} more" if prior.get("stopped") else ""
    costs = ", latencies and sizes" if prior["same_target"] else f" (its target is {prior['target']}, so no latencies)"
    return (
        f"warm start from {prior['path']}: accuracies of {len(prior['told'])} candidates{first_rungs}{costs}, and "
        f"{len(prior['front'])} members of its front proposed first"
    )
