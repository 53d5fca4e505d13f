"""What a search may still spend, trials and time, when it is over and why, and when it will be by its own pace."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

from nas.config import SearchConfig
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.results.stopping import End, Why, ends_flat, read_end, write_end
from nas.results.throughput import EARLY, forecast_words, forecasts, keep_forecast, pace, searching_s

GRACE = 0.1
"""Share of the budget by which a rung may outlast the search."""


class Allowance:
    """The limits of one run, as one of its processes sees them; time counts while any process works on the run.

    Args:
        config: with the limits.
        folder: of the run.
        started: when this process began to work on it, in seconds since the epoch.
    """

    def __init__(self, config: SearchConfig, folder: RunFolder, *, started: float) -> None:
        self._config, self._folder, self._started = config, folder, started
        self._rising_at = -1  # so many candidates were found not to be flat

    def tick(self) -> None:
        """Note that this process is at work."""
        self._folder.tick(self._started)

    @property
    def search_share(self) -> float:
        """Share of the budget for the search itself; all of it where nothing is verified."""
        return self._config.search_share if self._config.verify and self._config.final_epochs else 1.0

    def left_s(self, share: float = 1.0) -> float | None:
        """Seconds left of so much of the budget, below zero when it is overspent; None without a budget."""
        return None if self._config.budget is None else share * self._config.budget - self._folder.spent_s()

    def clock(self, share: float) -> Callable[[], bool] | None:
        """Whether so much of the budget is spent, cheap enough to be asked before each step; None without a budget.

        A tenth of the budget is allowed on top, so that what is nearly done comes to its end.
        """
        left = self.left_s(min(share + GRACE, 1.0))
        if left is None:
            return None
        end = time.monotonic() + left
        return lambda: time.monotonic() > end

    def over(self) -> Why | None:
        """Why the search is over; None while it is not."""
        self.tick()
        left = self.left_s(self.search_share)
        if left is not None and left <= 0:
            return "budget"
        records = [r for r in self._folder.records() if r.phase == "search"]
        if self._config.trials is not None and len(records) >= self._config.trials:
            return "trials"
        horizon = self._config.stop_when_flat
        if horizon is None or len(records) == self._rising_at:
            return None
        if ends_flat(self._folder, records, self._config.objectives, horizon):
            return "flat"
        self._rising_at = len(records)
        return None

    def note_end(self, why: Why) -> None:
        """Keep why the search ended. Where it is flat, that was kept when it was found, and holds for all processes."""
        before = read_end(self._folder)
        is_flat = before is not None and (before.why, before.horizon) == ("flat", self._config.stop_when_flat)
        if why != "flat" and not is_flat:
            done = sum(r.phase == "search" for r in self._folder.records())
            write_end(self._folder, End(why=why, candidates=done))

    def forecast(self, records: Sequence[Record]) -> str:
        """How fast the search goes and when it will end, in words; by the pilot while there are too few candidates."""
        found = pace(records, searching_s(self._folder, records))
        if found is None:
            return str(forecasts(self._folder).get("pilot", {}).get("words", ""))
        words = forecast_words(found, trials=self._config.trials, left_s=self.left_s(self.search_share))
        if found.candidates >= EARLY:
            keep_forecast(self._folder, "early", {**asdict(found), "words": words})
        return words
