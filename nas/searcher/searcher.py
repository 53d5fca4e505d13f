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
from nas.compression.base import Compressor
from nas.compression.pipeline import Compression
from nas.config import SearchConfig
from nas.data.loading import load_data
from nas.distillation.teacher_gene import ChosenTeacher
from nas.distillation.teacher_outputs import Classroom, teacher_names
from nas.distillation.teachers import find_teachers
from nas.errors import ConfigError
from nas.latency.measured.gc_control import settled
from nas.latency.measured.reference_cache import memory_path
from nas.latency.measured.worker import Timer
from nas.latency.speedup import NO_GAIN
from nas.models.user_model import open_model
from nas.pipeline import Evaluator
from nas.registry import load
from nas.reporting.html_report import write_report
from nas.results.front import representatives, search_front
from nas.results.front_table import write_front
from nas.results.record import Record
from nas.results.run_folder import RunFolder, as_begun
from nas.results.status import Stage, Status, status_of
from nas.runtimes.base import NO_MONITOR
from nas.searcher.acquisition.surrogate import Foresight
from nas.searcher.baseline import begin, check
from nas.searcher.budget import Allowance
from nas.searcher.cost_probe import look_ahead
from nas.searcher.crash_guard import GAVE_UP
from nas.searcher.final_training import Verification
from nas.searcher.promotion import promoter, telling
from nas.searcher.resume_check import same_data, same_target
from nas.searcher.study import Ask, Study
from nas.searcher.warm_start import warm_start
from nas.targets.catalog import device_runtime, target
from nas.targets.environment import doctor
from search_spaces._base import Choice, DisconnectedError, SearchSpace, Value

logger = logging.getLogger(__name__)

MAX_REPEATS = 200
"""Proposals in a row that are known already, after which the space counts as exhausted."""
BASE_SHARE = 0.2
"""Share of the budget for training a given net that comes without weights; the grace comes on top."""
HOST = "cpu"
"""Target word of this machine."""
SIDE_RUNTIME = "onnxruntime"
"""Scores every file, and measures it on this machine."""


def search(config: SearchConfig, *, watch: Callable[[Status], None] | None = None) -> RunFolder:
    """Search, then train the front in full; go on where an earlier call of the same configuration stopped.

    Args:
        config: what to search for.
        watch: told the status about once a second.

    Returns:
        The run folder, with records, models, pareto.csv, pareto.json and report.html.

    Raises:
        ConfigError: the folder holds another configuration or another data set.
        UserError: a member, a file or a package is missing.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # all but training is many tiny steps, which threads only slow down
    try:
        with settled(), Timer(memory=memory_path()) as timer:
            searcher = Searcher(config, watch or (lambda _: None), timer)
            searcher.begin()
            searcher.search()
            searcher.verify()
            return searcher.close()
    finally:
        torch.set_num_threads(threads)


class Searcher:
    """One process at work on a run. Life: made, `begin`, `search`, `verify`, `close`, each once."""

    def __init__(self, config: SearchConfig, watch: Callable[[Status], None], timer: Timer | None = None) -> None:
        self._ticked, started = 0.0, time.time()
        data = load_data(config.dataset, config.data, options=config.data_options)
        self.config, self._watch = (config := as_begun(telling(config, len(data.train)))), watch
        self._status: Status | None = None
        self._phase: Stage = "base" if config.model else "search"
        profile = target(config.target)
        board = device_runtime(profile)
        found = {f.name: f.value for f in board.reach(profile)} if board else {}  # nothing begins without the board
        check_objectives(config, can_measure_energy=found.get("energy", NO_MONITOR) != NO_MONITOR)
        multiple = profile.channel_multiple
        self.space: SearchSpace = (
            open_model(config, data, channel_multiple=multiple) if config.model else load("space", config.space)
        )
        # What may be mistyped is looked up before there is a folder that holds its configuration.
        lesson, sampler = load("lesson", config.distill), load("sampler", config.sampler)
        members = [load("compressor", name) for name in config.compressors]
        proxies = [load("proxy", word) for word in config.proxies]
        for earlier in config.warm_start:
            RunFolder.existing(earlier)
        teachers = find_teachers(config.teacher, data)
        self.folder = RunFolder.open(config)
        self.allowance = Allowance(config, self.folder, started=started)
        same_data(self.folder, data)
        same_target(self.folder, profile)
        self.folder.write("environment.json", json.dumps({f.name: f.value for f in doctor()}, indent=1))
        if teachers and config.distill_from == "start":
            members.append(ChosenTeacher(teacher_names(teachers)))
        compression = Compression(members=members, profile=profile)
        self.evaluator = Evaluator(
            config=config, folder=self.folder, space=self.space, profile=profile, host=target(HOST),
            compression=compression, runtime=load("runtime", SIDE_RUNTIME), data=data, digest=data.digest, board=board,
            watch=self._say, proxies=proxies, timer=timer,
        )  # fmt: skip
        choices = [*self.space.choices(channel_multiple=multiple), *compression.choices(self.space.stages)]
        self.warm = warm_start(self.folder, config, choices, neutral=compression.neutral(self.space.stages))
        self.study = self._study(choices, sampler)
        self._classroom = Classroom(
            sources=teachers, lesson=lesson, data=data, folder=self.folder, threads=self.evaluator.trainer.threads,
            say=self._say,
        )  # fmt: skip
        self._refresh()

    def _study(self, choices: Sequence[Choice], sampler: Any) -> Study:
        """The run's study: what is known to be good is asked first, and the sampler knows what can be foreseen."""
        evaluator, data = self.evaluator, self.evaluator.data
        foresight = Foresight(
            self.folder, self.config, space=self.space, compression=evaluator.compression, genes=choices,
            input_shape=data.input_shape, classes=len(data.classes), earlier=self.warm.records,
            told=self.warm.told if self.warm.runs else None,
        )  # fmt: skip
        seeds = self.warm.seeds or self._seeds(evaluator.compression.members, evaluator.profile)
        return Study(self.folder, self.config, choices, sampler, known=foresight.known(), seeds=seeds)

    def _seeds(self, compressors: Sequence[Compressor], profile: HardwareProfile) -> list[dict[str, Value]]:
        """Known good nets in each of the settings that the compressors want tried first."""
        settings = itertools.product(*(member.seeds(self.space.stages, profile) for member in compressors))
        nets = self.space.seeds(channel_multiple=profile.channel_multiple)
        return [dict(ChainMap(net, *setting)) for setting in settings for net in nets]

    def begin(self) -> None:
        """Ask the teachers; have a given model trained and measured as it is, for candidates to start from.

        Raises:
            ConfigError: the model cannot be compressed, its weights or a teacher are not those the run was started
                with, or no teacher has the layers that the lesson needs.
        """
        if self.config.model is not None:
            check(self.evaluator)
        if self._classroom.sources:
            course = self._classroom.course(temperature=self.config.temperature, alpha=self.config.alpha)
            self.evaluator = replace(self.evaluator, course=course)
        if self.config.model is not None:
            self.evaluator = replace(self.evaluator, start=begin(self.evaluator, stop=self.allowance.clock(BASE_SHARE)))
            self._phase = "search"
            self._refresh()

    def search(self) -> None:
        """Ask and answer until trials or the search's time are spent, or it is flat; then leave no trial running."""
        if self.allowance.over() is None:
            look_ahead(self.evaluator, left_s=self.allowance.left_s(self.allowance.search_share))
        repeats = 0
        while True:
            over = self.allowance.over() or ("exhausted" if repeats >= MAX_REPEATS else None)
            with ExitStack() as held:
                ask = self.study.left(held) if over else self.study.ask(held)
                if ask is None:
                    break
                record = self._answer(ask, held, evaluate=not over)
                repeats = MAX_REPEATS if ask.exhausted else repeats + 1
                if record is not None:
                    repeats = repeats if record.trial != ask.number else 0
                    self._propose_twin(ask, record)
                    self.study.tell(ask, record)
            self._refresh()
        if repeats >= MAX_REPEATS:
            logger.warning("nothing is proposed any more but what is known; the space holds little else")
        if over is not None:
            self.allowance.note_end(over)

    def verify(self) -> None:
        """Train members of the front in full and measure them again, the most telling first."""
        self._phase = "verify"
        self._refresh()
        Verification(
            evaluator=self.evaluator, members=self._members(), stop=self.allowance.clock(1.0),
            left_s=self.allowance.left_s, refresh=self._refresh,
        ).run()  # fmt: skip

    def close(self) -> RunFolder:
        """Write what people hold: the front as tables, and the report."""
        self._phase = "done"
        write_front(self.folder, self.config.objectives)
        self.folder.write("importance.json", json.dumps(self.study.importance(), indent=1))
        write_report([self.folder], self.folder.path / "report.html")
        self._refresh()
        return self.folder

    def _answer(self, ask: Ask, held: ExitStack, *, evaluate: bool) -> Record | None:
        """The record of a trial: known already, or made now if `evaluate`. None when the trial was given up."""
        try:
            candidate = self.evaluator.compression.decode(self.space, ask.picked)
        except DisconnectedError as error:
            self.study.skip(ask, str(error))
            return None
        if not held.enter_context(self.folder.claim(f"key-{candidate.key}")):
            self.study.skip(ask, "the same candidate is being evaluated by another process")
            return None
        known = {r.key: r for r in self.folder.records() if r.phase == "search"}
        if candidate.key in known:
            return known[candidate.key]
        if not evaluate:
            self.study.skip(ask, "the search was over before this candidate was evaluated")
            return None
        if ask.attempt.is_hopeless:
            record = self.evaluator.failed(candidate, trial=ask.number, phase="search", reason=GAVE_UP)
        else:
            self._say(f"trial {ask.number}")
            record = self.evaluator.evaluate(
                candidate,
                trial=ask.number,
                promote=promoter(self.folder, self.config.objectives, candidate, ask.attempt),
                deadline=lambda: self.allowance.over() is not None,
                stop=self.allowance.clock(self.allowance.search_share),
            )
        if origin := self.warm.origin(candidate.key):
            record = replace(record, notes=(*record.notes, origin))
        self.folder.append(record)
        return record

    def _propose_twin(self, ask: Ask, record: Record) -> None:
        """Have the float twin evaluated in the place of a net whose 8-bit units gain nothing."""
        twin = self.evaluator.compression.float_twin(record.candidate)
        if twin is not None and record.violations.get(NO_GAIN, 0.0) > 0:
            self.study.propose({**ask.picked, **{f"bits.{unit}": bits for unit, bits in twin.bits.items()}})

    def _members(self) -> list[Record]:
        """The members of the search front that stand for all of it."""
        front = search_front(self.folder.records(), self.config.objectives)
        return representatives(front, self.config.objectives, self.config.verify)

    def _refresh(self) -> None:
        """Look at all records anew and tell the status."""
        records = self.folder.records()
        verifying = self._phase in ("verify", "done")
        self._status = status_of(
            records, self.config.objectives, run=str(self.folder.path), phase=self._phase,
            total=len(self._members()) * self.config.verify_seeds if verifying else self.config.trials,
            forecast=self.allowance.forecast(records) if self._phase == "search" else "",
        )  # fmt: skip
        self._say("")

    def _say(self, activity: str) -> None:
        now = time.time()
        if now - self._ticked > 1:
            self.allowance.tick()
            self._ticked = now
        if self._status is None:
            return
        left = self.allowance.left_s()
        fields = {**self._status.__dict__, "activity": activity, "left_s": None if left is None else max(0.0, left)}
        self._watch(Status(**fields))


def check_objectives(config: SearchConfig, *, can_measure_energy: bool) -> None:
    """Refuse an objective that the target cannot give.

    Raises:
        ConfigError: energy is asked for and nothing here can measure it.
    """
    if "energy" in config.objectives and not can_measure_energy:
        raise ConfigError(
            f"objective energy needs a target that measures it, but {config.target!r} does not; "
            "use --objectives accuracy,latency or add size"
        )
