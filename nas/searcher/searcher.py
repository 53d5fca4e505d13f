"""Search loop: Optuna proposes candidates, workers evaluate them, records are kept; then the front is trained.

One process drives a run: it asks the sampler, decides at each rung, and writes the study, the records and the files.
What takes time or may crash is a step of a flow, which a worker takes. The same command resumes a search where it
stopped.
"""

import json
import logging
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from functools import partial

import torch

from nas.candidate import Candidate
from nas.config import SearchConfig
from nas.data.base import FaceData
from nas.data.loading import load_data
from nas.distillation.teachers import SELF, find_teachers
from nas.errors import ConfigError, NasError, WorkerDeathError
from nas.evaluation.evaluator import Evaluator
from nas.latency.int8_speedup import NO_GAIN
from nas.latency.measured.gc_control import gc_frozen
from nas.pipeline import candidate_flow
from nas.reporting.html_report import write_report
from nas.results.fold_statistics import write_folds
from nas.results.front import search_front
from nas.results.front_table import write_front
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.results.rungs import RUNGS_FILE
from nas.results.status import SearchStatus
from nas.searcher.assembly import SearchParts, assemble
from nas.searcher.baseline import check_compressible, prepare_baseline, read_initial_weights
from nas.searcher.cost_probe import probe_candidate_cost
from nas.searcher.final_plan import final_members
from nas.searcher.final_training import FinalTraining
from nas.searcher.study import AskedTrial
from nas.searcher.teacher_flow import run_teachers
from nas.searcher.workforce import Flow, Steps, Workforce
from search_spaces._base import DisconnectedError

logger = logging.getLogger(__name__)

MAX_CONSECUTIVE_DUPLICATES = 200
"""Consecutive proposals without a new candidate after which the space counts as exhausted."""
BASELINE_BUDGET_SHARE = 0.2
"""Share of the budget for training a user-defined model that comes without weights; the grace comes on top."""


AddBaselines = Callable[[RunFolder, FaceData, Callable[[str], None]], object]
"""Scores and times published models for a run: its folder, its data, and a function that takes a line on each step."""


def search(
    config: SearchConfig,
    *,
    on_status: Callable[[SearchStatus], None] | None = None,
    add_baselines: AddBaselines | None = None,
) -> RunFolder:
    """Search, then train the front to its end; resume where an earlier call of the same configuration stopped.

    Args:
        config: what to search for.
        on_status: receives the status about once a second.
        add_baselines: scores and times the published models that the configuration names; None leaves them out.

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
        with gc_frozen(), ExitStack() as stack:
            with _no_folder_of_a_refused_search(config):
                stack.enter_context(RunFolder(config.folder).driven(wait=config.run.wait))
                parts = assemble(config, on_status=on_status or (lambda _: None))
                executor = stack.enter_context(closing(parts.executor))
                searcher = Searcher(parts)
                searcher.prepare()
            searcher.search()
            searcher.train_final()
            executor.close()
            if add_baselines is not None:
                searcher.add_baselines(add_baselines)
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
        results = ("records.jsonl", RUNGS_FILE, "checkpoints/*", "base/*", "base/checkpoints/*", "models/*")
        if not was_there and not any(path.is_file() for name in results for path in folder.glob(name)):
            shutil.rmtree(folder, ignore_errors=True)
            if not runs_were_there:
                with suppress(OSError):  # another run is in it by now
                    runs.rmdir()
        raise


class Searcher:
    """The loop of a run's driver.

    Life: `prepare`, `search`, `train_final`, perhaps `add_baselines`, `close`, each once and in this order. Promises:

    - a candidate is evaluated once in a run;
    - each trial that was asked ends with its record, the record of its duplicate, or a reason;
    - whatever a candidate does wrong, the loop goes on.

    Args:
        parts: made by `assemble`.
    """

    def __init__(self, parts: SearchParts) -> None:
        self._parts, self._evaluator = parts, parts.evaluator
        self._left: deque[AskedTrial] = deque()
        self._evaluating: dict[str, list[AskedTrial]] = {}
        self._n_duplicates = 0
        parts.progress.refresh()

    def prepare(self) -> None:
        """Compute the teachers' outputs; train and measure a user-defined model, from which candidates then start.

        Raises:
            ConfigError: the model cannot be compressed, its weights or a teacher are not those the run was started
                with, or no teacher has the layers that the distillation method needs.
        """
        parts, config = self._parts, self._parts.config
        parts.executor.configure(self._evaluator)
        if config.search.model is not None:
            self._run(check_compressible(self._evaluator), "the given model")
        if parts.teacher_outputs.sources:
            self._run(run_teachers(parts.teacher_outputs), "the teachers")
            distillation = parts.teacher_outputs.build_distillation(
                temperature=config.distillation.temperature, alpha=config.distillation.alpha
            )
            self._evaluator = replace(self._evaluator, distillation=distillation)
            parts.executor.configure(self._evaluator)
        if config.search.model is not None:
            self._run(prepare_baseline(self._evaluator), "the given model", share=BASELINE_BUDGET_SHARE)
            self._evaluator = replace(self._evaluator, initial_weights=read_initial_weights(self._evaluator))
            parts.executor.configure(self._evaluator)
            parts.progress.enter("search")

    def search(self) -> None:
        """Evaluate candidates until a limit is reached, the front has converged or the space is exhausted.

        Trials that an earlier driver left are ended in any case, so that no trial stays running.
        """
        budget, study = self._parts.budget, self._parts.study
        study.retry_false_failures()
        if budget.stop_reason() is None:
            self._run(self._probe_cost(), "cost probe")
        self._left.extend(study.left())
        self._workforce(budget.search_share).run(self._next_candidate)
        if self._is_exhausted:
            logger.warning("the sampler proposes only candidates that were evaluated before; the space is exhausted")
        stop_reason = budget.stop_reason() or ("exhausted" if self._is_exhausted else None)
        if stop_reason is not None:
            budget.record_stop_reason(stop_reason)

    def train_final(self) -> None:
        """Train members of the front to their end and measure them again, the most informative first."""
        parts, training = self._parts, self._parts.config.training
        remaining_s, n_workers = parts.budget.remaining_s(), parts.executor.n_workers
        worker_s = None if remaining_s is None else n_workers * remaining_s
        members = final_members(parts.folder, parts.config.search, training, worker_s=worker_s)
        parts.progress.enter("verify")
        final = FinalTraining(
            evaluator=self._evaluator,
            folder=parts.folder,
            training=training,
            members=members,
            workforce=self._workforce(1.0),
            n_workers=n_workers,
            remaining_s=parts.budget.remaining_s,
            training_s=partial(parts.budget.training_s, 1.0),
            on_progress=parts.progress.refresh,
            enter_fold=self._enter_fold if self._evaluator.data.n_folds > 1 else None,
        )
        if SELF in parts.config.distillation.teacher and len(members) > 1:
            members = sorted(members, key=lambda member: -(member.objective("accuracy") or 0.0))
            replace(final, members=members, n_now=1).run()
            final = replace(final, members=members, evaluator=self._taught_by(members[0]))
        final.run()

    def _enter_fold(self, fold: int) -> None:
        """Hand the data of a fold to the workers.

        Raises:
            DataError: the data set can no longer be read.
        """
        search = self._parts.config.search
        data = load_data(
            search.dataset, search.data, options=search.data_options, keep_duplicates=search.keep_duplicates,
            protocol=search.protocol, fold=fold,
        )  # fmt: skip
        self._parts.progress.publish(f"fold {fold + 1} of {data.n_folds}")
        self._parts.executor.configure(replace(self._evaluator, data=data, data_digest=data.digest))

    def _taught_by(self, member: Record) -> Evaluator:
        """The evaluator with a verified member as the teacher of what is trained next; without one if it failed.

        A run that goes on after more was searched keeps the teacher that it had.
        """
        parts, distillation = self._parts, self._parts.config.distillation
        verified = [r for r in parts.folder.records() if r.phase == "verified" and r.score]
        earlier = [r for r in verified if r.sha256 in parts.teacher_outputs.recorded_digests]
        teachers = earlier or [r for r in verified if r.key == member.key]
        if not teachers:
            logger.warning("trial %d was to teach the other members, but failed; they train on labels", member.trial)
            return self._evaluator
        sources = find_teachers([str(parts.folder.path / teachers[0].model)], self._evaluator.data)
        outputs = replace(parts.teacher_outputs, sources=sources)
        self._run(run_teachers(outputs), "the teacher")
        taught = outputs.build_distillation(temperature=distillation.temperature, alpha=distillation.alpha)
        self._evaluator = replace(self._evaluator, distillation=taught)
        parts.executor.configure(self._evaluator)
        return self._evaluator

    def add_baselines(self, add: AddBaselines) -> None:
        """Have published models scored and timed. A failure costs their rows alone, not what was searched."""
        parts = self._parts
        try:
            add(parts.folder, self._evaluator.data, parts.progress.publish)
        except NasError as error:
            logger.warning(
                "baselines are left out: %s; `nas report %s --baseline FILE` tries again", error, parts.folder.path
            )

    def close(self) -> RunFolder:
        """Write the front and the folds as tables, the gene importance and the report."""
        folder = self._parts.folder
        write_front(folder, self._parts.config.search.objectives)
        write_folds(folder)
        folder.write("importance.json", json.dumps(self._parts.study.importance(), indent=1))
        write_report([folder], folder.path / "report.html")
        self._parts.progress.enter("done")
        return folder

    def _workforce(self, share: float) -> Workforce:
        """A workforce whose training ends with a share of the time limit."""
        parts = self._parts
        return Workforce(
            parts.executor,
            parts.folder,
            training_s=partial(parts.budget.training_s, share),
            on_wait=parts.progress.repeat,
        )

    def _run(self, steps: Steps, name: str, *, share: float = 1.0) -> None:
        """Take one flow to its end.

        Raises:
            ConfigError: a step of it keeps crashing its worker.
        """
        flows = [Flow(name=name, key=name, steps=steps)]
        try:
            self._workforce(share).run(lambda: flows.pop() if flows else None)
        except WorkerDeathError as death:
            raise ConfigError(f"{name} cannot be used: {death}") from None

    def _probe_cost(self) -> Steps:
        budget, config = self._parts.budget, self._parts.config
        return probe_candidate_cost(
            self._evaluator,
            trials=config.search.trials,
            training=config.training,
            remaining_s=budget.remaining_s(budget.search_share),
        )

    @property
    def _is_exhausted(self) -> bool:
        return self._n_duplicates >= MAX_CONSECUTIVE_DUPLICATES

    def _next_candidate(self) -> Flow | None:
        """The flow of the next candidate that has no record; None where there is none to begin at the moment."""
        budget, study, trials = self._parts.budget, self._parts.study, self._parts.config.search.trials
        while True:
            is_over = self._is_exhausted or budget.stop_reason() is not None
            # Each candidate under way will have a record: the number of trials is a limit, not an aim.
            is_full = trials is not None and len(self._parts.records.all()) + len(self._evaluating) >= trials
            if self._left:
                trial = self._left.popleft()
            elif is_over or is_full:
                return None
            else:
                trial = study.ask()
            if (flow := self._begin(trial, is_over=is_over)) is not None:
                return flow
            self._parts.progress.refresh()

    def _begin(self, trial: AskedTrial, *, is_over: bool) -> Flow | None:
        """The flow of a trial's candidate; None where the trial was ended, or waits for its duplicate."""
        parts = self._parts
        self._n_duplicates = MAX_CONSECUTIVE_DUPLICATES if trial.is_exhausted else self._n_duplicates + 1
        try:
            candidate = parts.compression.decode(parts.space, trial.picked)
        except DisconnectedError as error:
            parts.study.fail(trial, str(error))
            return None
        if (known := parts.records.find(candidate.key)) is not None:
            self._end(trial, known)
            return None
        if candidate.key in self._evaluating:
            self._evaluating[candidate.key].append(trial)
            return None
        if is_over:
            parts.study.fail(trial, "the search was over before this candidate was evaluated")
            return None
        self._n_duplicates = 0
        self._evaluating[candidate.key] = [trial]
        return Flow(name=f"trial {trial.number}", key=candidate.key, steps=self._evaluate(trial, candidate))

    def _evaluate(self, trial: AskedTrial, candidate: Candidate) -> Steps:
        """Evaluate a candidate, and tell its record to its trial, and to duplicates that were asked meanwhile."""
        parts, evaluator = self._parts, self._evaluator
        parts.progress.publish(f"trial {trial.number}")
        try:
            record = yield from candidate_flow(
                evaluator.empty_record(candidate, trial.number, "search"),
                rung=evaluator.checkpoints.last_rung(candidate),
                n_rungs=len(parts.config.training.rungs),
                promote=parts.rung_results.promoter(candidate),
                is_search_over=lambda: parts.budget.stop_reason() is not None,
                front=self._front,
            )
        except WorkerDeathError as death:
            record = evaluator.failed_record(candidate, trial=trial.number, phase="search", reason=str(death))
        if origin := parts.warm_start.describe_origin(candidate.key):
            record = replace(record, notes=(*record.notes, origin))
        parts.folder.append(record)
        for asked in self._evaluating.pop(candidate.key):
            self._end(asked, record)
        parts.progress.refresh()

    def _end(self, trial: AskedTrial, record: Record) -> None:
        self._enqueue_fp32_baseline(trial, record)
        self._parts.study.tell(trial, record)

    def _front(self) -> Sequence[Record]:
        """The front of the search so far, for a device that measures what may enter it; empty without one."""
        if self._evaluator.device_runtime is None:
            return ()
        return search_front(self._parts.folder.records(), self._parts.config.search.objectives)

    def _enqueue_fp32_baseline(self, trial: AskedTrial, record: Record) -> None:
        """Have the FP32 baseline evaluated in place of a candidate whose INT8 units are no faster."""
        baseline = self._parts.compression.fp32_baseline(record.candidate)
        if baseline is not None and record.violations.get(NO_GAIN, 0.0) > 0:
            self._parts.study.enqueue(
                {**trial.picked, **{f"bits.{unit}": bits for unit, bits in baseline.bits.items()}}
            )
