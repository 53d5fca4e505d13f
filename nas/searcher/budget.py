"""What a search may still spend, trials and time, when it is over and why, and when it will be by its own pace."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

from nas.config import SearchConfig
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.results.stopping import SearchEnd, StopReason, check_converged, read_search_end, write_search_end
from nas.results.throughput import (
    EARLY_FORECAST_CANDIDATES,
    estimate_throughput,
    format_forecast,
    read_forecasts,
    search_time_s,
    write_forecast_once,
)

GRACE_SHARE = 0.1
"""Share of the budget by which a rung may outlast the search."""


class SearchBudget:
    """The limits of one run, as one of its processes sees them; time counts while any process works on the run.

    Args:
        config: with the limits.
        folder: of the run.
        started: when this process began to work on it, in seconds since the epoch.
    """

    def __init__(self, config: SearchConfig, folder: RunFolder, *, started: float) -> None:
        self._config, self._folder, self._started = config, folder, started
        self._improving_at = -1  # so many candidates were found not to be flat

    def log_work_interval(self) -> None:
        """Note that this process is at work."""
        self._folder.log_work_interval(self._started)

    @property
    def search_share(self) -> float:
        """Share of the budget for the search itself; all of it where nothing is verified."""
        return (
            self._config.search.search_share
            if self._config.training.verify and self._config.training.final_epochs
            else 1.0
        )

    def remaining_s(self, share: float = 1.0) -> float | None:
        """Seconds left of so much of the budget, below zero when it is overspent; None without a budget."""
        return (
            None if self._config.search.budget is None else share * self._config.search.budget - self._folder.worked_s()
        )

    def deadline(self, share: float) -> Callable[[], bool] | None:
        """Whether so much of the budget is spent, cheap enough to be asked before each step; None without a budget.

        A tenth of the budget is allowed on top, so that what is nearly done comes to its end.
        """
        left = self.remaining_s(min(share + GRACE_SHARE, 1.0))
        if left is None:
            return None
        end = time.monotonic() + left
        return lambda: time.monotonic() > end

    def stop_reason(self) -> StopReason | None:
        """Why the search is over; None while it is not."""
        self.log_work_interval()
        left = self.remaining_s(self.search_share)
        if left is not None and left <= 0:
            return "budget"
        records = [r for r in self._folder.records() if r.phase == "search"]
        if self._config.search.trials is not None and len(records) >= self._config.search.trials:
            return "trials"
        horizon = self._config.search.patience
        if horizon is None or len(records) == self._improving_at:
            return None
        if check_converged(self._folder, records, self._config.search.objectives, horizon):
            return "flat"
        self._improving_at = len(records)
        return None

    def record_stop_reason(self, reason: StopReason) -> None:
        """Keep why the search ended. Where it is flat, that was kept when it was found, and holds for all processes."""
        before = read_search_end(self._folder)
        is_flat = before is not None and (before.why, before.horizon) == ("flat", self._config.search.patience)
        if reason != "flat" and not is_flat:
            done = sum(r.phase == "search" for r in self._folder.records())
            write_search_end(self._folder, SearchEnd(why=reason, candidates=done))

    def forecast(self, records: Sequence[Record]) -> str:
        """How fast the search goes and when it will end, in words; by the pilot while there are too few candidates."""
        found = estimate_throughput(records, search_time_s(self._folder, records))
        if found is None:
            return str(read_forecasts(self._folder).get("pilot", {}).get("words", ""))
        words = format_forecast(
            found, trials=self._config.search.trials, remaining_s=self.remaining_s(self.search_share)
        )
        if found.candidates >= EARLY_FORECAST_CANDIDATES:
            write_forecast_once(self._folder, "early", {**asdict(found), "words": words})
        return words
