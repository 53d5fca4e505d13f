"""Rungs of a run: the figures of its candidates after each rung, in rungs.jsonl.

One line per candidate and rung, in order of arrival: key, rung, and the values in the order of `rung_objectives`.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, FiniteFloat

from nas.errors import ConfigError
from nas.results.run_folder import RunFolder

RUNGS_FILE = "rungs.jsonl"


class _RungLine(BaseModel):
    """Form of a line."""

    key: str
    rung: int
    values: list[FiniteFloat]


def rung_objectives(objectives: Sequence[str]) -> list[str]:
    """The objectives that are known at a rung: all but energy, which only a finished file has."""
    return [objective for objective in objectives if objective != "energy"]


def read_rungs(folder: RunFolder, objectives: Sequence[str], *, first: int = 0) -> list[dict[str, Any]]:
    """The lines of a run, oldest first, with `key`, `rung` and `values`.

    Args:
        folder: the run.
        objectives: of the search, in order.
        first: number of lines to leave out, those of an earlier call.

    Raises:
        ConfigError: the file cannot be read, or a line is damaged.
    """
    names = rung_objectives(objectives)
    lines = folder.json_lines(RUNGS_FILE, _RungLine)[first:]
    for line in lines:
        if len(line["values"]) != len(names):
            raise ConfigError(
                f"{folder.path / RUNGS_FILE} must have values of {', '.join(names)} in each line, but the line of "
                f"{line['key'][:20]!r} at rung {line['rung']} has {len(line['values'])}; restore the file from a "
                "copy, or remove the line"
            )
    return lines
