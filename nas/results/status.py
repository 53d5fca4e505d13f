"""Status of a search: progress, best candidate and forecast, for display."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nas.pareto import hypervolume
from nas.results.front import maximize_flags, objective_values
from nas.results.record import Record

SearchStage = Literal["base", "search", "verify", "done"]


@dataclass(frozen=True, kw_only=True)
class SearchStatus:
    """State of a search at one moment.

    Attributes:
        run: the run's folder.
        stage: current stage.
        activity: current step, as text.
        done: finished candidates of the search, or verified members of the front.
        total: how many there will be; None where time is the limit.
        feasible_share: share of the finished candidates that satisfy all constraints, 0..1.
        hypervolume: of the search front, relative to the worst values so far; more is better.
        best: the most accurate feasible candidate, as text.
        left_s: seconds left of the budget; None without one.
        forecast: throughput and expected end, as text; empty where unknown.
    """

    run: str
    stage: SearchStage
    activity: str
    done: int
    total: int | None
    feasible_share: float
    hypervolume: float
    best: str
    left_s: float | None
    forecast: str = ""


def make_status(
    records: Sequence[Record],
    objectives: Sequence[str],
    *,
    run: str,
    stage: SearchStage,
    total: int | None,
    forecast: str,
) -> SearchStatus:
    """Status from the records of a run; `activity` and `left_s` are left for the caller to fill.

    Args:
        records: all records.
        objectives: of the search.
        run: the run's folder.
        stage: current stage.
        total: candidates or trainings planned in this stage; None where time is the limit.
        forecast: throughput and expected end, as text.
    """
    searched = [r for r in records if r.phase == "search"]
    complete = [r for r in searched if r.status == "complete"]
    accuracies = np.nan_to_num(objective_values(complete, ["accuracy"])[:, 0])
    best = complete[int(accuracies.argmax())] if complete else None
    verified = {(r.key, r.seed) for r in records if r.phase == "verified"}
    return SearchStatus(
        run=run, stage=stage, activity="", done=len(verified if stage in ("verify", "done") else searched),
        total=total, feasible_share=len(complete) / len(searched) if searched else 1.0,
        hypervolume=_hypervolume(complete, objectives), best=_describe_record(best) if best else "none yet",
        left_s=None, forecast=forecast,
    )  # fmt: skip


def _hypervolume(complete: list[Record], objectives: Sequence[str]) -> float:
    if not complete:
        return 0.0
    points, maximize = objective_values(complete, objectives), maximize_flags(objectives)
    worst = np.where(maximize, points.min(0), points.max(0))
    return hypervolume(points, worst.tolist(), maximize)


def _describe_record(record: Record) -> str:
    latency = record.latency.latency_ms if record.latency else float("nan")
    return f"{record.objective('accuracy') or 0:.1%} at {latency:.3g} ms (trial {record.trial})"
