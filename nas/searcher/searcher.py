"""Search loop: Optuna proposes a candidate, the pipeline evaluates it, a record is kept; then the front is trained.

The same command resumes a search where it stopped. Several processes may work on one run: they share the study, the
records and the rungs, and each locks the trial, candidate or training that it works on.
"""

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace

import torch

from nas.candidate import Candidate
from nas.config import SearchConfig
from nas.latency.int8_speedup import NO_GAIN
from nas.latency.measured.gc_control import gc_frozen
from nas.latency.measured.reference_cache import reference_cache_path
from nas.latency.measured.worker import TimingWorker
from nas.reporting.html_report import write_report
from nas.results.front_table import write_front
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.results.status import SearchStatus
from nas.searcher.assembly import SearchParts, assemble
from nas.searcher.baseline import check_compressible, prepare_baseline
from nas.searcher.cost_probe import probe_candidate_cost
from nas.searcher.final_training import FinalTraining, select_members
from nas.searcher.study import AskedTrial
from search_spaces._base import DisconnectedError

logger = logging.getLogger(__name__)

MAX_CONSECUTIVE_DUPLICATES = 200
"""Consecutive proposals without a new candidate after which the space counts as exhausted."""
BASELINE_BUDGET_SHARE = 0.2
"""Share of the budget for training a user-defined model that comes without weights; the grace comes on top."""


def search(config: SearchConfig, *, on_status: Callable[[SearchStatus], None] | None = None) -> RunFolder:
    """Search, then train the front to its end; resume where an earlier call of the same configuration stopped.

    Args:
        config: what to search for.
        on_status: receives the status about once a second.

    Returns:
        The run folder, with records, models, pareto.csv, pareto.json and report.html.

    Raises:
        ConfigError: the folder holds a run of another configuration, on other data or another target.
        UserError: a member, a file or a package is missing.
        OSError, MemoryError: the machine lacks room, memory or access. Nothing is recorded of the candidate in
            progress, so that a later call resumes with it.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # apart from training, the work is many tiny operations that threads only slow down
    try:
        with gc_frozen(), TimingWorker(reference_cache=reference_cache_path()) as timing_worker:
            with _no_folder_of_a_refused_search(config):
                parts = assemble(config, on_status=on_status or (lambda _: None), timing_worker=timing_worker)
                searcher = Searcher(parts)
                searcher.prepare()
            searcher.search()
            searcher.train_final()
            return searcher.close()
    except (OSError, MemoryError) as error:
        error.add_note("the same command resumes")
        raise
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _no_folder_of_a_refused_search(config: SearchConfig) -> Iterator[None]:
    """Remove the run folder that the block makes, if the block fails before there is any result in it."""
    folder, runs = config.folder, config.folder.parent
    was_there, runs_were_there = folder.exists(), runs.exists()
    try:
        yield
    except Exception:
        results = ("records.jsonl", "rungs.jsonl", "checkpoints/*", "base/*", "base/checkpoints/*", "models/*")
        if not was_there and not any(path.is_file() for name in results for path in folder.glob(name)):
            shutil.rmtree(folder, ignore_errors=True)
            if not runs_were_there:
                with suppress(OSError):  # another run is in it by now
                    runs.rmdir()
        raise


class Searcher:
    """The loop of one process on a run.

    Life: `prepare`, `search`, `train_final`, `close`, each once and in this order. Promises:

    - a candidate is evaluated once in a run, by whichever process;
    - each trial that was asked ends with its record, the record of its duplicate, or a reason;
    - whatever a candidate does wrong, the loop goes on.

    Args:
        parts: made by `assemble`.
    """

    def __init__(self, parts: SearchParts) -> None:
        self._parts, self._evaluator = parts, parts.evaluator
        parts.progress.refresh()

    def prepare(self) -> None:
        """Compute the teachers' outputs; train and measure a user-defined model, from which candidates then start.

        Raises:
            ConfigError: the model cannot be compressed, its weights or a teacher are not those the run was started
                with, or no teacher has the layers that the distillation method needs.
        """
        parts, config = self._parts, self._parts.config
        if config.search.model is not None:
            check_compressible(self._evaluator)
        if parts.teacher_outputs.sources:
            distillation = parts.teacher_outputs.build_distillation(
                temperature=config.distillation.temperature, alpha=config.distillation.alpha
            )
            self._evaluator = replace(self._evaluator, distillation=distillation)
        if config.search.model is not None:
            weights = prepare_baseline(self._evaluator, stop=parts.budget.deadline(BASELINE_BUDGET_SHARE))
            self._evaluator = replace(self._evaluator, initial_weights=weights)
            parts.progress.enter("search")

    def search(self) -> None:
        """Evaluate candidates until a limit is reached, the front has converged or the space is exhausted.

        Afterwards trials that dead processes left are ended too, so that no trial stays running.
        """
        budget, study = self._parts.budget, self._parts.study
        study.retry_false_failures()
        if budget.stop_reason() is None:
            self._probe_cost()
        duplicates = 0
        while True:
            stop_reason = budget.stop_reason() or ("exhausted" if duplicates >= MAX_CONSECUTIVE_DUPLICATES else None)
            with ExitStack() as locks:
                trial = study.ask_stale(locks) if stop_reason else study.ask(locks)
                if trial is None:
                    break
                record = self._evaluate_trial(trial, locks, is_over=stop_reason is not None)
                duplicates = MAX_CONSECUTIVE_DUPLICATES if trial.is_exhausted else duplicates + 1
                if record is not None:
                    duplicates = duplicates if record.trial != trial.number else 0
                    self._enqueue_fp32_baseline(trial, record)
                    study.tell(trial, record)
            self._parts.progress.refresh()
        if duplicates >= MAX_CONSECUTIVE_DUPLICATES:
            logger.warning("the sampler proposes only candidates that were evaluated before; the space is exhausted")
        if stop_reason is not None:
            budget.record_stop_reason(stop_reason)

    def train_final(self) -> None:
        """Train members of the front to their end and measure them again, the most informative first."""
        parts, training = self._parts, self._parts.config.training
        parts.progress.enter("verify")
        FinalTraining(
            evaluator=self._evaluator,
            folder=parts.folder,
            training=training,
            members=select_members(parts.folder.records(), parts.config.search.objectives, training.verify),
            stop=parts.budget.deadline(1.0),
            remaining_s=parts.budget.remaining_s,
            on_progress=parts.progress.refresh,
        ).run()

    def close(self) -> RunFolder:
        """Write the front as tables, the gene importance and the report."""
        folder = self._parts.folder
        write_front(folder, self._parts.config.search.objectives)
        folder.write("importance.json", json.dumps(self._parts.study.importance(), indent=1))
        write_report([folder], folder.path / "report.html")
        self._parts.progress.enter("done")
        return folder

    def _probe_cost(self) -> None:
        budget, config = self._parts.budget, self._parts.config
        probe_candidate_cost(
            self._evaluator,
            trials=config.search.trials,
            training=config.training,
            remaining_s=budget.remaining_s(budget.search_share),
        )

    def _evaluate_trial(self, trial: AskedTrial, locks: ExitStack, *, is_over: bool) -> Record | None:
        """The record of a trial's candidate: an earlier one, or a new one unless the search `is_over`.

        Returns:
            None where the trial was ended without a record.
        """
        parts = self._parts
        try:
            candidate = parts.compression.decode(parts.space, trial.picked)
        except DisconnectedError as error:
            parts.study.fail(trial, str(error))
            return None
        if not locks.enter_context(parts.folder.lock(f"key-{candidate.key}")):
            parts.study.fail(trial, "the same candidate is being evaluated by another process")
            return None
        if (known := parts.records.find(candidate.key)) is not None:
            return known
        if is_over:
            parts.study.fail(trial, "the search was over before this candidate was evaluated")
            return None
        record = self._evaluate(trial, candidate)
        if origin := parts.warm_start.describe_origin(candidate.key):
            record = replace(record, notes=(*record.notes, origin))
        parts.folder.append(record)
        return record

    def _evaluate(self, trial: AskedTrial, candidate: Candidate) -> Record:
        """The record of a candidate that was not evaluated before."""
        if trial.crash_guard.should_skip:
            reason = trial.crash_guard.reason
            return self._evaluator.failed_record(candidate, trial=trial.number, phase="search", reason=reason)
        parts, budget = self._parts, self._parts.budget
        parts.progress.publish(f"trial {trial.number}")
        return self._evaluator.evaluate(
            candidate,
            trial=trial.number,
            promote=parts.rung_results.promoter(candidate, trial.crash_guard),
            is_search_over=lambda: budget.stop_reason() is not None,
            stop=budget.deadline(budget.search_share),
        )

    def _enqueue_fp32_baseline(self, trial: AskedTrial, record: Record) -> None:
        """Have the FP32 baseline evaluated in place of a candidate whose INT8 units are no faster."""
        baseline = self._parts.compression.fp32_baseline(record.candidate)
        if baseline is not None and record.violations.get(NO_GAIN, 0.0) > 0:
            self._parts.study.enqueue(
                {**trial.picked, **{f"bits.{unit}": bits for unit, bits in baseline.bits.items()}}
            )
