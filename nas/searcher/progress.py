"""Progress of a run: its stage, the status that callers are shown, and the time that its driver has worked."""

import time
from collections.abc import Callable
from dataclasses import replace

from nas.config import SearchFields, TrainingFields
from nas.results.run_folder import RunFolder
from nas.results.status import SearchStage, SearchStatus, make_status
from nas.searcher.budget import SearchBudget
from nas.searcher.final_plan import final_members

OnStatus = Callable[[SearchStatus], None]

WORK_INTERVAL_S = 1.0
"""Seconds between two notes of the working time in the run folder, at least."""


class Progress:
    """Publishes the status of a search.

    Life: made before the evaluator, which reports its activities here; `enter` at the start of each stage, `refresh`
    after each record. Nothing is published before the first `refresh`.

    Args:
        folder: the run.
        budget: remaining time and forecast.
        search: objectives and number of trials.
        training: members and seeds of the final training.
        on_status: receives each status.
    """

    def __init__(
        self,
        folder: RunFolder,
        budget: SearchBudget,
        *,
        search: SearchFields,
        training: TrainingFields,
        on_status: OnStatus,
    ) -> None:
        self._folder, self._budget, self._on_status = folder, budget, on_status
        self._search, self._training = search, training
        self._stage: SearchStage = "base" if search.model else "search"
        self._status: SearchStatus | None = None
        self._activity = ""
        self._last_logged_s = 0.0

    def enter(self, stage: SearchStage) -> None:
        """Start a stage, and publish the status there."""
        self._stage = stage
        self.refresh()

    def refresh(self) -> None:
        """Compute the status from all records, and publish it."""
        records = self._folder.records()
        self._status = make_status(
            records,
            self._search.objectives,
            run=str(self._folder.path),
            stage=self._stage,
            total=self._total(),
            forecast=self._budget.forecast(records) if self._stage == "search" else "",
        )
        self.publish("")

    def publish(self, activity: str) -> None:
        """Publish the last status with what is being done now, in words."""
        self._activity = activity
        now = time.time()
        if now - self._last_logged_s > WORK_INTERVAL_S:
            self._budget.log_work_interval()
            self._last_logged_s = now
        if self._status is None:
            return
        left_s = self._budget.remaining_s()
        self._on_status(replace(self._status, activity=activity, left_s=None if left_s is None else max(0.0, left_s)))

    def repeat(self) -> None:
        """Publish the same again, with the time that is left now."""
        self.publish(self._activity)

    def _total(self) -> int | None:
        """Trainings or candidates that this stage is to complete; None where only time limits it."""
        if self._stage not in ("verify", "done"):
            return self._search.trials
        members = final_members(self._folder, self._search, self._training)
        return len(members) * self._training.verify_seeds
