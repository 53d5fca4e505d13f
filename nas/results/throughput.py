"""Throughput of a search and forecast of its end: from a cost probe at first, then from its own candidates."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nas.intervals import Z_95
from nas.results.record import Record
from nas.results.run_folder import RunFolder, union_length

FORECAST_FILE = "forecast.json"
"""Forecasts by name: `pilot` before the search started, `early` after its first few candidates."""
MIN_CANDIDATES = 3
"""Finished candidates needed for an estimate from the search itself."""
EARLY_FORECAST_CANDIDATES = 5
"""Finished candidates after which the early forecast is stored."""


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """Rate at which candidates finish, by all workers together.

    Attributes:
        candidates: finished candidates.
        per_hour: candidates finished in an hour of work on the run.
        low: lower end of the 95 % interval of `per_hour`, from the variation of seconds between candidates.
        high: upper end of that interval.
        feasible: share of the candidates that satisfy all constraints, 0..1.
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
    """Throughput of a search; None before `MIN_CANDIDATES` have finished.

    The interval is symmetric in the logarithm of the rate, so that its lower end stays above 0. The standard error of
    the logarithm is the relative standard error of the mean seconds of a candidate (delta method).

    Args:
        records: of the run; those of the search count.
        search_time_s: wall time of the search in seconds, as `search_time_s` gives it.
    """
    searched = [r for r in records if r.phase == "search"]
    if len(searched) < MIN_CANDIDATES or search_time_s <= 0:
        return None
    seconds = np.array([r.total_s for r in searched])
    error = float(seconds.std(ddof=1) / max(seconds.mean(), 1e-9) / math.sqrt(len(seconds)))
    rate = 3600 * len(searched) / search_time_s
    return Throughput(
        candidates=len(searched),
        per_hour=rate,
        low=rate * math.exp(-Z_95 * error),
        high=rate * math.exp(Z_95 * error),
        feasible=sum(r.is_feasible for r in searched) / len(searched),
    )


def search_time_s(folder: RunFolder, records: Sequence[Record]) -> float:
    """Wall time in seconds during which the run was worked on until its last search candidate finished.

    The seconds of other candidates until then (an uncompressed model, verifications between two searches) are
    subtracted. The result is 0 before the first candidate.
    """
    ends = [r.finished_at_s for r in records if r.phase == "search" and r.finished]
    if not ends:
        return 0.0
    last_s = max(ends)
    others = [r for r in records if r.phase != "search" and r.finished and r.finished_at_s <= last_s]
    spans = sorted((r.finished_at_s - r.total_s, r.finished_at_s) for r in others)
    # Records are dated in whole seconds, so the last candidate may have finished up to 1 s after its date.
    return max(0.0, folder.worked_s(until_s=last_s + 1) - union_length(spans))


def format_probe_forecast(low_s: float, high_s: float, *, trials: int | None, remaining_s: float | None) -> str:
    """Forecast of the search from the seconds of one probed candidate, as text.

    Args:
        low_s: seconds of the candidate if it stops at the first rung.
        high_s: seconds if it completes all rungs.
        trials: candidates to search; None without that limit.
        remaining_s: seconds left for the search; None without a budget.
    """
    parts = [f"a first candidate takes {format_duration(low_s)} to {format_duration(high_s)}"]
    if remaining_s is not None and remaining_s > 0:
        parts.append(f"so about {remaining_s / high_s:,.0f} to {remaining_s / low_s:,.0f} candidates in the budget")
    if trials is not None:
        parts.append(
            f"{trials:,} candidates in {format_duration(trials * low_s)} to {format_duration(trials * high_s)}"
        )
    return ", ".join(parts)


def format_forecast(throughput: Throughput, *, trials: int | None, remaining_s: float | None) -> str:
    """Throughput, time to the end of the search, and the number of candidates by then, as text.

    Args:
        throughput: so far.
        trials: candidates to search in total; None without that limit.
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
    """Store a forecast under a name, unless one is stored already: the first is compared with the outcome."""
    known = read_forecasts(folder)
    if name not in known:
        folder.write(FORECAST_FILE, json.dumps(known | {name: fields}, indent=1))


def read_forecasts(folder: RunFolder) -> dict[str, dict[str, Any]]:
    """Stored forecasts by name; empty where there are none."""
    stored: dict[str, dict[str, Any]] = folder.read_json(FORECAST_FILE, dict[str, dict[str, Any]])
    return stored


def format_duration(seconds: float | None) -> str:
    """Seconds as h:mm:ss or m:ss; "no limit" for None."""
    if seconds is None:
        return "no limit"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
