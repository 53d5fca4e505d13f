"""Search budget: the trials and the time that remain, why a search is over, and a forecast of when it will be."""

import time
from collections.abc import Sequence
from dataclasses import asdict

from nas.config import SearchFields, TrainingFields
from nas.results.hypervolume_curve import HypervolumeCurve
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.results.search_end import SearchEnd, StopReason, check_converged, read_search_end, write_search_end
from nas.results.throughput import (
    EARLY_FORECAST_CANDIDATES,
    estimate_throughput,
    format_forecast,
    read_forecasts,
    search_time_s,
    write_forecast_once,
)
from nas.searcher.record_index import SearchRecords

GRACE_SHARE = 0.1
"""Share of the budget by which a rung may outlast the search."""


class SearchBudget:
    """The limits of one run.

    Time counts while the driver works on the run, so a run that is resumed goes on with what remained.

    Args:
        folder: the run.
        records: its search records.
        search: trials, time limit, its share for the search, patience and objectives.
        training: whether the front is trained in full afterwards.
        started: when this process began to work on the run, in seconds since the epoch.
    """

    def __init__(
        self,
        folder: RunFolder,
        records: SearchRecords,
        *,
        search: SearchFields,
        training: TrainingFields,
        started: float,
    ) -> None:
        self._folder, self._records, self._search = folder, records, search
        self._has_final_training = training.verify != 0 and training.final_epochs != 0
        self._started = started
        self._clock_start = time.monotonic() - (time.time() - started)
        self._curve = HypervolumeCurve(search.objectives)
        self._n_not_converged = -1  # number of candidates for which convergence was tested last, and refuted

    def log_work_interval(self) -> None:
        """Record that this process has worked on the run until now, whatever happens to the time of day meanwhile."""
        self._folder.log_work_interval(self._started, time.monotonic() - self._clock_start)

    @property
    def search_share(self) -> float:
        """Share of the time limit for the search, 0..1; all of it where no final training follows."""
        return self._search.search_share if self._has_final_training else 1.0

    def remaining_s(self, share: float = 1.0) -> float | None:
        """Seconds that remain of a share of the time limit, negative once it is overspent; None without a limit."""
        return None if self._search.budget is None else share * self._search.budget - self._folder.worked_s()

    def training_s(self, share: float) -> float | None:
        """Seconds until training has to end for a share of the time limit, negative once it is past; None without one.

        The end lies `GRACE_SHARE` of the time limit later than the share, though never beyond the limit itself, so that
        a rung that is nearly complete is not thrown away.
        """
        return self.remaining_s(min(share + GRACE_SHARE, 1.0))

    def stop_reason(self) -> StopReason | None:
        """Why the search is over; None while it is not."""
        self.log_work_interval()
        left = self.remaining_s(self.search_share)
        if left is not None and left <= 0:
            return "budget"
        records = self._records.all()
        if self._search.trials is not None and len(records) >= self._search.trials:
            return "trials"
        horizon = self._search.patience
        if horizon is None or len(records) == self._n_not_converged:
            return None
        if check_converged(self._folder, self._curve.update(records), horizon):
            return "flat"
        self._n_not_converged = len(records)
        return None

    def record_stop_reason(self, reason: StopReason) -> None:
        """Write down why the search ended.

        Convergence was written down when it was found and holds for all calls, so no later reason replaces it.
        """
        before = read_search_end(self._folder)
        has_converged = before is not None and (before.why, before.horizon) == ("flat", self._search.patience)
        if reason != "flat" and not has_converged:
            write_search_end(self._folder, SearchEnd(why=reason, candidates=len(self._records.all())))

    def forecast(self, records: Sequence[Record]) -> str:
        """The rate of candidates and the expected end, in words; the cost probe's forecast while there are too few.

        Args:
            records: all records of the run.
        """
        throughput = estimate_throughput(records, search_time_s(self._folder, records))
        if throughput is None:
            return str(read_forecasts(self._folder).get("pilot", {}).get("words", ""))
        words = format_forecast(throughput, trials=self._search.trials, remaining_s=self.remaining_s(self.search_share))
        if throughput.candidates >= EARLY_FORECAST_CANDIDATES:
            write_forecast_once(self._folder, "early", {**asdict(throughput), "words": words})
        return words
