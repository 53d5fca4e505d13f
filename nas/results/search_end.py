"""End of a search: its reason, the convergence test, and the forecast of the next hour."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Literal

from nas.results.convergence import forecast_improvement, has_converged
from nas.results.hypervolume_curve import HypervolumeCurve, hypervolume_curve
from nas.results.limit_use import describe_limit_use
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.results.throughput import Throughput, estimate_throughput, format_duration, read_forecasts, search_time_s
from nas.results.training_forecast import describe_gains

SEARCH_END_FILE = "ended.json"
StopReason = Literal["trials", "budget", "flat", "exhausted"]


@dataclass(frozen=True, kw_only=True)
class SearchEnd:
    """Reason why a search last ended. The fields are those stored in ended.json.

    Attributes:
        why: all `trials` are done, the `budget` is spent, the search is `flat` (has converged), or the space is
            `exhausted`.
        candidates: finished by then.
        horizon: further candidates that the convergence test covered; None for other reasons.
        told: the forecast by which the search has converged, as text.
    """

    why: StopReason
    candidates: int
    horizon: int | None = None
    told: str = ""

    def __str__(self) -> str:
        reasons = {
            "trials": "all trials are done",
            "budget": "its share of the budget is spent",
            "exhausted": "the space is exhausted: the last proposals were all duplicates",
            "flat": self.told,
        }
        return f"the search ended after {self.candidates} candidates: {reasons[self.why]}"


def read_search_end(folder: RunFolder) -> SearchEnd | None:
    """Why the search of a run last ended; None where it has not ended yet."""
    stored = folder.read_json(SEARCH_END_FILE, SearchEnd)
    return (
        SearchEnd(**{field.name: stored[field.name] for field in fields(SearchEnd) if field.name in stored})
        if stored
        else None
    )


def write_search_end(folder: RunFolder, end: SearchEnd) -> None:
    """Store why the search ended.

    Without new candidates the stored reason stays, because a later call that only finishes the verification often finds
    the budget spent, too. A convergence test with another horizon replaces it.
    """
    before = read_search_end(folder)
    is_new_test = before is not None and end.why == "flat" and before.horizon != end.horizon
    if before is None or is_new_test or before.candidates < end.candidates:
        folder.write(SEARCH_END_FILE, json.dumps(asdict(end), indent=1))


def check_converged(folder: RunFolder, curve: HypervolumeCurve, horizon: int) -> bool:
    """Whether the search has converged, the same in all calls on the run.

    The decision of one process is stored and holds for all, also in later calls, whatever finished in between.

    Args:
        folder: the run.
        curve: of all search records of the run.
        horizon: number of further candidates, as in `has_converged`.
    """
    before = read_search_end(folder)
    if before is not None and (before.why, before.horizon) == ("flat", horizon):
        return True
    shares = curve.shares()
    if not has_converged(shares, horizon):
        return False
    told = str(forecast_improvement(shares, horizon))
    write_search_end(folder, SearchEnd(why="flat", candidates=len(shares), horizon=horizon, told=told))
    return True


def describe_search_end(folder: RunFolder, records: Sequence[Record]) -> list[str]:
    """Stop reason, a limit that does not bind, throughput, forecast of the next hour, and earlier forecasts with the
    outcome, one line each."""
    searched = [r for r in records if r.phase == "search"]
    end, seconds = read_search_end(folder), search_time_s(folder, records)
    throughput = estimate_throughput(records, seconds)
    lines = []
    if end is not None:
        more = len(searched) - end.candidates
        lines.append(f"{end}{f'; {more} more have finished since' if more > 0 else ''}")
        lines += describe_limit_use(folder, records)
    if throughput is not None:
        lines.append(f"throughput: {throughput}")
        lines += _forecast_next_hour(folder, searched, throughput)
    lines += describe_gains(folder, records)
    outcome = f"the outcome was {len(searched)} candidates in {format_duration(seconds)}"
    forecasts = read_forecasts(folder)
    for name, when in (("pilot", "before the search"), ("early", "after its first candidates")):
        if searched and forecasts.get(name, {}).get("words"):
            lines.append(f"forecast {when}: {forecasts[name]['words']}; {outcome}")
    return lines


def _forecast_next_hour(folder: RunFolder, search_records: Sequence[Record], throughput: Throughput) -> list[str]:
    curve = hypervolume_curve(search_records, folder.config.search.objectives)
    forecast = forecast_improvement(curve, max(1, round(throughput.per_hour)))
    return [f"the next hour, by the run's own curve: {forecast}; 95 % intervals"] if forecast else []
