"""The search: Optuna asks, the pipeline answers, records remember; afterwards the front is trained in full.

Rerunning the same search goes on where it stopped. Several processes may work on one run at once: they share the study,
the records and the rungs, and each holds what it works on by a lock.
"""

import itertools
import json
import logging
import time
from collections import ChainMap
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch

from hw_profiles._base import HardwareProfile
from nas.compression.gene_provider import GeneProvider
from nas.compression.pipeline import CompressionPipeline
from nas.config import SearchConfig
from nas.data.loading import load_data
from nas.distillation.teacher_gene import TeacherGene
from nas.distillation.teacher_outputs import TeacherOutputs, unique_teacher_names
from nas.distillation.teachers import find_teachers
from nas.errors import ConfigError
from nas.latency.measured.gc_control import gc_frozen
from nas.latency.measured.reference_cache import reference_cache_path
from nas.latency.measured.worker import TimingWorker
from nas.latency.speedup import NO_GAIN
from nas.models.user_model import load_user_model
from nas.pipeline import Evaluator
from nas.registry import load
from nas.reporting.html_report import write_report
from nas.results.front import representatives, search_front
from nas.results.front_table import write_front
from nas.results.record import Record
from nas.results.run_folder import RunFolder, with_resumed_fields
from nas.results.status import SearchStage, SearchStatus, make_status
from nas.runtimes.base import NO_POWER_MONITOR
from nas.searcher.acquisition.surrogate import SearchSurrogate
from nas.searcher.baseline import check_compressible, prepare_baseline
from nas.searcher.budget import SearchBudget
from nas.searcher.cost_probe import probe_candidate_cost
from nas.searcher.crash_guard import ABANDONED_REASON
from nas.searcher.final_training import FinalTraining
from nas.searcher.promotion import drop_uninformative_rungs, promoter
from nas.searcher.resume_check import check_same_data, check_same_target
from nas.searcher.study import AskedTrial, Study
from nas.searcher.warm_start import warm_start
from nas.targets.catalog import device_runtime, load_target
from nas.targets.environment import check_environment
from search_spaces._base import Choice, DisconnectedError, SearchSpace, Value

logger = logging.getLogger(__name__)

MAX_CONSECUTIVE_DUPLICATES = 200
"""Proposals in a row that are known already, after which the space counts as exhausted."""
BASELINE_BUDGET_SHARE = 0.2
"""Share of the budget for training a given net that comes without weights; the grace comes on top."""
HOST_TARGET = "cpu"
"""Target word of this machine."""
HOST_RUNTIME = "onnxruntime"
"""Scores every file, and measures it on this machine."""


def search(config: SearchConfig, *, on_status: Callable[[SearchStatus], None] | None = None) -> RunFolder:
    """Search, then train the front in full; go on where an earlier call of the same configuration stopped.

    Args:
        config: what to search for.
        on_status: told the status about once a second.

    Returns:
        The run folder, with records, models, pareto.csv, pareto.json and report.html.

    Raises:
        ConfigError: the folder holds another configuration or another data set.
        UserError: a member, a file or a package is missing.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # all but training is many tiny steps, which threads only slow down
    try:
        with gc_frozen(), TimingWorker(reference_cache=reference_cache_path()) as timer:
            searcher = Searcher(config, on_status or (lambda _: None), timer)
            searcher.prepare()
            searcher.search()
            searcher.train_final()
            return searcher.close()
    finally:
        torch.set_num_threads(threads)


class Searcher:
    """One process at work on a run. Life: made, `begin`, `search`, `verify`, `close`, each once."""

    def __init__(
        self, config: SearchConfig, on_status: Callable[[SearchStatus], None], timing_worker: TimingWorker | None = None
    ) -> None:
        self._last_tick_s, started = 0.0, time.time()
        data = load_data(config.search.dataset, config.search.data, options=config.search.data_options)
        self.config, self._on_status = (
            (config := with_resumed_fields(drop_uninformative_rungs(config, len(data.train)))),
            on_status,
        )
        self._status: SearchStatus | None = None
        self._stage: SearchStage = "base" if config.search.model else "search"
        profile = load_target(config.search.target)
        board = device_runtime(profile)
        found = (
            {f.name: f.value for f in board.probe_device(profile)} if board else {}
        )  # nothing begins without the board
        check_objectives(config, can_measure_energy=found.get("energy", NO_POWER_MONITOR) != NO_POWER_MONITOR)
        multiple = profile.channel_multiple
        self.space: SearchSpace = (
            load_user_model(config, data, channel_multiple=multiple)
            if config.search.model
            else load("space", config.search.space)
        )
        # What may be mistyped is looked up before there is a folder that holds its configuration.
        lesson, sampler = load("lesson", config.distillation.distill), load("sampler", config.search.sampler)
        members = [load("compressor", name) for name in config.compression.compressors]
        proxies = [load("proxy", word) for word in config.search.proxies]
        for earlier in config.search.warm_start:
            RunFolder.open_existing(earlier)
        teachers = find_teachers(config.distillation.teacher, data)
        self.folder = RunFolder.open(config)
        self.budget = SearchBudget(config, self.folder, started=started)
        check_same_data(self.folder, data)
        check_same_target(self.folder, profile)
        self.folder.write("environment.json", json.dumps({f.name: f.value for f in check_environment()}, indent=1))
        distills = bool(teachers) and config.distillation.distill_during == "search"
        other_genes = [TeacherGene(unique_teacher_names(teachers))] if distills else []
        compression = CompressionPipeline(compressors=members, profile=profile, other_genes=other_genes)
        self.evaluator = Evaluator(
            config=config, folder=self.folder, space=self.space, profile=profile, host_profile=load_target(HOST_TARGET),
            compression=compression, host_runtime=load("runtime", HOST_RUNTIME), data=data, data_digest=data.digest, device_runtime=board,
            log=self._publish_status, proxies=proxies, timing_worker=timing_worker,
        )  # fmt: skip
        choices = [*self.space.choices(channel_multiple=multiple), *compression.choices(self.space.stages)]
        self.warm_start = warm_start(
            self.folder, config, choices, neutral=compression.neutral_settings(self.space.stages)
        )
        self.study = self._make_study(choices, sampler)
        self._teacher_outputs = TeacherOutputs(
            sources=teachers, method=lesson, data=data, folder=self.folder, threads=self.evaluator.trainer.threads,
            log=self._publish_status,
        )  # fmt: skip
        self._refresh_status()

    def _make_study(self, choices: Sequence[Choice], make_sampler: Any) -> Study:
        """The run's study: what is known to be good is asked first, and the sampler knows what can be foreseen."""
        evaluator, data = self.evaluator, self.evaluator.data
        foresight = SearchSurrogate(
            self.folder, self.config, space=self.space, compression=evaluator.compression, genes=choices,
            input_shape=data.input_shape, classes=len(data.classes), prior_records=self.warm_start.records,
            prior_trials=self.warm_start.prior_trials if self.warm_start.runs else None,
        )  # fmt: skip
        seeds = self.warm_start.initial_picks or self._initial_picks(
            evaluator.compression.gene_providers, evaluator.profile
        )
        return Study(
            self.folder, self.config, choices, make_sampler, context=foresight.sampler_context(), initial_picks=seeds
        )

    def _initial_picks(self, providers: Sequence[GeneProvider], profile: HardwareProfile) -> list[dict[str, Value]]:
        """Known good nets in each of the settings that the compressors want tried first."""
        settings = itertools.product(*(member.initial_settings(self.space.stages, profile) for member in providers))
        nets = self.space.initial_configurations(channel_multiple=profile.channel_multiple)
        return [dict(ChainMap(net, *setting)) for setting in settings for net in nets]

    def prepare(self) -> None:
        """Ask the teachers; have a given model trained and measured as it is, for candidates to start from.

        Raises:
            ConfigError: the model cannot be compressed, its weights or a teacher are not those the run was started
                with, or no teacher has the layers that the lesson needs.
        """
        if self.config.search.model is not None:
            check_compressible(self.evaluator)
        if self._teacher_outputs.sources:
            course = self._teacher_outputs.build_distillation(
                temperature=self.config.distillation.temperature, alpha=self.config.distillation.alpha
            )
            self.evaluator = replace(self.evaluator, distillation=course)
        if self.config.search.model is not None:
            self.evaluator = replace(
                self.evaluator,
                initial_weights=prepare_baseline(self.evaluator, stop=self.budget.deadline(BASELINE_BUDGET_SHARE)),
            )
            self._stage = "search"
            self._refresh_status()

    def search(self) -> None:
        """Ask and answer until trials or the search's time are spent, or it is flat; then leave no trial running."""
        if self.budget.stop_reason() is None:
            probe_candidate_cost(self.evaluator, remaining_s=self.budget.remaining_s(self.budget.search_share))
        repeats = 0
        while True:
            over = self.budget.stop_reason() or ("exhausted" if repeats >= MAX_CONSECUTIVE_DUPLICATES else None)
            with ExitStack() as held:
                ask = self.study.ask_stale(held) if over else self.study.ask(held)
                if ask is None:
                    break
                record = self._evaluate_trial(ask, held, evaluate=not over)
                repeats = MAX_CONSECUTIVE_DUPLICATES if ask.is_exhausted else repeats + 1
                if record is not None:
                    repeats = repeats if record.trial != ask.number else 0
                    self._enqueue_fp32_baseline(ask, record)
                    self.study.tell(ask, record)
            self._refresh_status()
        if repeats >= MAX_CONSECUTIVE_DUPLICATES:
            logger.warning("nothing is proposed any more but what is known; the space holds little else")
        if over is not None:
            self.budget.record_stop_reason(over)

    def train_final(self) -> None:
        """Train members of the front in full and measure them again, the most telling first."""
        self._stage = "verify"
        self._refresh_status()
        FinalTraining(
            evaluator=self.evaluator, members=self._front_representatives(), stop=self.budget.deadline(1.0),
            remaining_s=self.budget.remaining_s, on_progress=self._refresh_status,
        ).run()  # fmt: skip

    def close(self) -> RunFolder:
        """Write what people hold: the front as tables, and the report."""
        self._stage = "done"
        write_front(self.folder, self.config.search.objectives)
        self.folder.write("importance.json", json.dumps(self.study.importance(), indent=1))
        write_report([self.folder], self.folder.path / "report.html")
        self._refresh_status()
        return self.folder

    def _evaluate_trial(self, asked: AskedTrial, locks: ExitStack, *, evaluate: bool) -> Record | None:
        """The record of a trial: known already, or made now if `evaluate`. None when the trial was given up."""
        try:
            candidate = self.evaluator.compression.decode(self.space, asked.picked)
        except DisconnectedError as error:
            self.study.fail(asked, str(error))
            return None
        if not locks.enter_context(self.folder.lock(f"key-{candidate.key}")):
            self.study.fail(asked, "the same candidate is being evaluated by another process")
            return None
        known = {r.key: r for r in self.folder.records() if r.phase == "search"}
        if candidate.key in known:
            return known[candidate.key]
        if not evaluate:
            self.study.fail(asked, "the search was over before this candidate was evaluated")
            return None
        if asked.crash_guard.should_skip:
            record = self.evaluator.failed_record(
                candidate, trial=asked.number, phase="search", reason=ABANDONED_REASON
            )
        else:
            self._publish_status(f"trial {asked.number}")
            record = self.evaluator.evaluate(
                candidate,
                trial=asked.number,
                promote=promoter(self.folder, self.config.search.objectives, candidate, asked.crash_guard),
                is_search_over=lambda: self.budget.stop_reason() is not None,
                stop=self.budget.deadline(self.budget.search_share),
            )
        if origin := self.warm_start.describe_origin(candidate.key):
            record = replace(record, notes=(*record.notes, origin))
        self.folder.append(record)
        return record

    def _enqueue_fp32_baseline(self, asked: AskedTrial, record: Record) -> None:
        """Have the float twin evaluated in the place of a net whose 8-bit units gain nothing."""
        twin = self.evaluator.compression.fp32_baseline(record.candidate)
        if twin is not None and record.violations.get(NO_GAIN, 0.0) > 0:
            self.study.enqueue({**asked.picked, **{f"bits.{unit}": bits for unit, bits in twin.bits.items()}})

    def _front_representatives(self) -> list[Record]:
        """The members of the search front that stand for all of it."""
        front = search_front(self.folder.records(), self.config.search.objectives)
        return representatives(front, self.config.search.objectives, self.config.training.verify)

    def _refresh_status(self) -> None:
        """Look at all records anew and tell the status."""
        records = self.folder.records()
        verifying = self._stage in ("verify", "done")
        self._status = make_status(
            records, self.config.search.objectives, run=str(self.folder.path), stage=self._stage,
            total=len(self._front_representatives()) * self.config.training.verify_seeds if verifying else self.config.search.trials,
            forecast=self.budget.forecast(records) if self._stage == "search" else "",
        )  # fmt: skip
        self._publish_status("")

    def _publish_status(self, activity: str) -> None:
        now = time.time()
        if now - self._last_tick_s > 1:
            self.budget.log_work_interval()
            self._last_tick_s = now
        if self._status is None:
            return
        left = self.budget.remaining_s()
        fields = {**self._status.__dict__, "activity": activity, "left_s": None if left is None else max(0.0, left)}
        self._on_status(SearchStatus(**fields))


def check_objectives(config: SearchConfig, *, can_measure_energy: bool) -> None:
    """Refuse an objective that the target cannot give.

    Raises:
        ConfigError: energy is asked for and nothing here can measure it.
    """
    if "energy" in config.search.objectives and not can_measure_energy:
        raise ConfigError(
            f"objective energy needs a target that measures it, but {config.search.target!r} does not; "
            "use --objectives accuracy,latency or add size"
        )
