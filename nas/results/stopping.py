"""Why a search ended, and what more of it would bring."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from nas.results.convergence import forecast_improvement, has_converged
from nas.results.front import hypervolume_curve
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.results.throughput import Throughput, estimate_throughput, format_duration, read_forecasts, search_time_s

SEARCH_END_FILE = "ended.json"
StopReason = Literal["trials", "budget", "flat", "exhausted"]


@dataclass(frozen=True, kw_only=True)
class SearchEnd:
    """How a search ended, the last time it did.

    Attributes:
        why: `trials` or `budget` were spent, it was `flat`, or the space was `exhausted`.
        candidates: finished until then.
        horizon: candidates that were asked about, where it was flat.
        told: the outlook by which it was flat, in words.
    """

    why: StopReason
    candidates: int
    horizon: int | None = None
    told: str = ""

    def __str__(self) -> str:
        reasons = {
            "trials": "all candidates asked for are done",
            "budget": "its share of the budget is spent",
            "exhausted": "the space holds little else: the last proposals were all known",
            "flat": self.told,
        }
        return f"the search ended after {self.candidates} candidates: {reasons[self.why]}"


def read_search_end(folder: RunFolder) -> SearchEnd | None:
    """How the search of a run ended; None where it never did."""
    stored = folder.read_json(SEARCH_END_FILE)
    return SearchEnd(**stored) if stored else None


def write_search_end(folder: RunFolder, end: SearchEnd) -> None:
    """Keep how the search ended.

    Without a new candidate it is why it ended before, unless it was only now asked whether it is flat: a later call for
    the rest of the verification often finds the budget spent, too.
    """
    before = read_search_end(folder)
    is_asked_anew = before is not None and end.why == "flat" and before.horizon != end.horizon
    if before is None or is_asked_anew or before.candidates < end.candidates:
        folder.write(SEARCH_END_FILE, json.dumps(asdict(end), indent=1))


def check_converged(folder: RunFolder, records: Sequence[Record], objectives: Sequence[str], horizon: int) -> bool:
    """Whether so many further candidates would gain too little, for all processes on the run the same.

    What one of them has decided holds for all, and in a later call too, whatever came in between.
    """
    before = read_search_end(folder)
    if before is not None and (before.why, before.horizon) == ("flat", horizon):
        return True
    curve = hypervolume_curve(records, objectives)
    if not has_converged(curve, horizon):
        return False
    write_search_end(
        folder,
        SearchEnd(why="flat", candidates=len(curve), horizon=horizon, told=str(forecast_improvement(curve, horizon))),
    )
    return True


def describe_search_end(folder: RunFolder, records: Sequence[Record]) -> list[str]:
    """Why the search ended, what the next hour would bring, and what was forecast, in sentences; only what is known."""
    searched = [r for r in records if r.phase == "search"]
    end, seconds = read_search_end(folder), search_time_s(folder, records)
    found = estimate_throughput(records, seconds)
    lines = []
    if end is not None:
        more = len(searched) - end.candidates
        lines.append(f"{end}{f'; {more} more came since' if more > 0 else ''}")
    if found is not None:
        lines.append(f"pace: {found}")
        lines += _forecast_next_hour(folder, searched, found)
    came = f"it came to {len(searched)} candidates in {format_duration(seconds)}"
    told = read_forecasts(folder)
    for name, when in (("pilot", "before it began"), ("early", "after its first candidates")):
        if searched and told.get(name, {}).get("words"):
            lines.append(f"forecast {when}: {told[name]['words']}; {came}")
    return lines


def _forecast_next_hour(folder: RunFolder, search_records: Sequence[Record], throughput: Throughput) -> list[str]:
    ahead = forecast_improvement(
        hypervolume_curve(search_records, folder.config.search.objectives), max(1, round(throughput.per_hour))
    )
    if ahead is None:
        return []
    return [f"the next hour, by the run's own curve: {ahead}; 95 % intervals"]
