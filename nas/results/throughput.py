"""How fast a search goes and how long it will take: by a pilot before it starts, by its own candidates afterwards."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nas.intervals import Z_95
from nas.results.front import is_feasible
from nas.results.record import Record
from nas.results.run_folder import RunFolder

FORECAST_FILE = "forecast.json"
"""What was forecast: `pilot` before the search began, `early` after its first few candidates."""
MIN_CANDIDATES = 3
"""Finished candidates from which a search is judged by its own."""
EARLY_FORECAST_CANDIDATES = 5
"""Finished candidates after which the early forecast is kept."""


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """How fast candidates come, in all processes together.

    Attributes:
        candidates: how many were finished.
        per_hour: candidates finished in an hour of work on the run.
        low: lower end of the 95 % interval of `per_hour`, by how much candidates differ in the time they take.
        high: upper end of it.
        feasible: share of the candidates that keep all constraints, 0..1.
    """

    candidates: int
    per_hour: float
    low: float
    high: float
    feasible: float

    def __str__(self) -> str:
        return (
            f"{self.per_hour:.3g} candidates an hour ({self.low:.3g} to {self.high:.3g}), {self.feasible:.0%} feasible"
        )


def estimate_throughput(records: Sequence[Record], search_time_s: float) -> Throughput | None:
    """The pace of a search that took so many seconds; None before `MIN_CANDIDATES` are finished.

    Args:
        records: of the run; those of the search count.
        search_time_s: that the search took on the clock, see `searching_s`.
    """
    found = [r for r in records if r.phase == "search"]
    if len(found) < MIN_CANDIDATES or search_time_s <= 0:
        return None
    each = np.array([math.fsum(r.seconds.values()) for r in found])
    error = float(each.std(ddof=1) / max(each.mean(), 1e-9) / math.sqrt(len(each)))  # of the mean's logarithm
    rate = 3600 * len(found) / search_time_s
    return Throughput(
        candidates=len(found),
        per_hour=rate,
        low=rate * math.exp(-Z_95 * error),
        high=rate * math.exp(Z_95 * error),
        feasible=sum(map(is_feasible, found)) / len(found),
    )


def search_time_s(folder: RunFolder, records: Sequence[Record]) -> float:
    """Seconds on the clock that a run was worked on until the last candidate of its search was finished.

    What other candidates took before that (a given net, verifications between two searches) is taken off.
    """
    ends = [r.finished_at_s for r in records if r.phase == "search" and r.finished]
    if not ends:
        return 0.0
    others = [r for r in records if r.phase != "search" and r.finished and r.finished_at_s <= max(ends)]
    return max(0.0, folder.worked_s(until_s=max(ends) + 1) - sum(math.fsum(r.seconds.values()) for r in others))


def format_probe_forecast(low_s: float, high_s: float, *, trials: int | None, remaining_s: float | None) -> str:
    """What the seconds of a pilot's candidate mean for the search to come.

    Args:
        low_s: that the candidate takes if it stops at the first rung.
        high_s: if it goes through all rungs.
        trials: candidates asked for; None without that limit.
        remaining_s: seconds left for the search, told where there are any; None without a budget.
    """
    parts = [f"a first net takes {format_duration(low_s)} to {format_duration(high_s)}"]
    if remaining_s is not None and remaining_s > 0:
        parts.append(f"so about {remaining_s / high_s:,.0f} to {remaining_s / low_s:,.0f} candidates in the budget")
    if trials is not None:
        parts.append(
            f"{trials:,} candidates in {format_duration(trials * low_s)} to {format_duration(trials * high_s)}"
        )
    return ", ".join(parts)


def format_forecast(throughput: Throughput, *, trials: int | None, remaining_s: float | None) -> str:
    """The pace, when the search will end by it, and with how many candidates.

    Args:
        throughput: the pace so far.
        trials: candidates asked for in all; None without that limit.
        remaining_s: seconds left for the search; None without a budget.
    """
    ends_s = [] if remaining_s is None else [max(0.0, remaining_s)]
    if trials is not None:
        ends_s.append(max(0, trials - throughput.candidates) / throughput.per_hour * 3600)
    if not ends_s:
        return str(throughput)
    total = throughput.candidates + min(ends_s) / 3600 * throughput.per_hour
    return f"{throughput}; ends in about {format_duration(min(ends_s))} with about {total:,.0f}"


def write_forecast_once(folder: RunFolder, name: str, fields: dict[str, Any]) -> None:
    """Write down what was forecast, once."""
    known = read_forecasts(folder)
    if name not in known:
        folder.write(FORECAST_FILE, json.dumps(known | {name: fields}, indent=1))


def read_forecasts(folder: RunFolder) -> dict[str, dict[str, Any]]:
    """What was forecast, by name."""
    return folder.read_json(FORECAST_FILE)


def format_duration(seconds: float | None) -> str:
    """Seconds as h:mm:ss or m:ss; "no limit" for None."""
    if seconds is None:
        return "no limit"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
