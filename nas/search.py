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
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np
import torch

from hw_profiles._base import HardwareProfile
from nas.allowance import Allowance
from nas.attempts import GAVE_UP, Attempt
from nas.base import begin, check
from nas.candidate import Candidate
from nas.chosen_teacher import ChosenTeacher
from nas.compression import Compression
from nas.compressors._base import Compressor
from nas.config import OBJECTIVES, SearchConfig
from nas.data._base import FaceData
from nas.datasets import load_data
from nas.distill import Classroom, teacher_names
from nas.doctor import doctor
from nas.draft import Draft
from nas.errors import ConfigError
from nas.foresight import Foresight
from nas.front import directions, search_front, values, write_front
from nas.gain import NO_GAIN
from nas.given import open_model
from nas.latency.prediction import PREDICTORS, fingerprint
from nas.pareto import hypervolume, non_dominated, spread
from nas.pilot import look_ahead
from nas.pipeline import Evaluator
from nas.records import Record, RunFolder
from nas.registry import load
from nas.report import write_report
from nas.runtimes._base import NO_MONITOR
from nas.study import Ask, Study
from nas.targets import device_runtime, target
from nas.teachers import find_teachers
from nas.timer import Timer
from nas.verify import Verification
from nas.warm_start import warm_start
from nas.yardstick import memory_path
from search_spaces._base import Choice, DisconnectedError, SearchSpace, Value

logger = logging.getLogger(__name__)

MAX_REPEATS = 200
"""Proposals in a row that are known already, after which the space counts as exhausted."""
TARGET_FACTS = ("title", "runtime", "latency", "calibration")
"""What latencies of a target depend on: fields of its profile, and the calibration that its predictions go by."""
BASE_SHARE = 0.2
"""Share of the budget for training a given net that comes without weights; the grace comes on top."""
HOST = "cpu"
"""Target word of this machine."""
SIDE_RUNTIME = "onnxruntime"
"""Scores every file, and measures it on this machine."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """Where a search stands, for a person.

    Attributes:
        run: the run's folder.
        phase: what it is at.
        activity: what is being done at this moment, in words.
        done: candidates finished in the search, or members of the front verified.
        total: of how many; None when time is the limit.
        feasible: share of the finished candidates that keep all constraints, 0..1.
        hypervolume: of the search front, relative to the worst values seen so far; more is better.
        best: the most accurate feasible candidate in words.
        left_s: seconds left of the budget; None without one.
        forecast: how fast it goes and when it will end, in words; empty where that is not known, or no longer asked.
    """

    run: str
    phase: Literal["base", "search", "verify", "done"]
    activity: str
    done: int
    total: int | None
    feasible: float
    hypervolume: float
    best: str
    left_s: float | None
    forecast: str = ""


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
        with Timer(memory=memory_path()) as timer:
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
        self.config, self._watch = config, watch
        self._ticked, started = 0.0, time.time()
        profile = target(config.target)
        board = device_runtime(profile)
        found = {f.name: f.value for f in board.reach(profile)} if board else {}  # nothing begins without the board
        check_objectives(config, can_measure_energy=found.get("energy", NO_MONITOR) != NO_MONITOR)
        data = load_data(config.dataset, config.data, options=config.data_options)
        self.space: SearchSpace = (
            open_model(config, data, channel_multiple=profile.channel_multiple)
            if config.model
            else load("space", config.space)
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
        digest = self._same_data(data)
        self._same_target(profile)
        self.folder.write("environment.json", json.dumps({f.name: f.value for f in doctor()}, indent=1))
        if teachers and config.distill_from == "start":
            members.append(ChosenTeacher(teacher_names(teachers)))
        compression = Compression(members=members, profile=profile)
        self.evaluator = Evaluator(
            config=config, folder=self.folder, space=self.space, profile=profile, host=target(HOST),
            compression=compression, runtime=load("runtime", SIDE_RUNTIME), data=data, digest=digest, board=board,
            watch=self._say, proxies=proxies, timer=timer,
        )  # fmt: skip
        own = self.space.choices(channel_multiple=profile.channel_multiple)
        choices: list[Choice] = [*own, *compression.choices(self.space.stages)]
        self.warm = warm_start(self.folder, config, choices, neutral=compression.neutral(self.space.stages))
        foresight = Foresight(
            self.folder, config, space=self.space, compression=compression, genes=choices,
            input_shape=data.input_shape, classes=len(data.classes), earlier=self.warm.records,
            told=self.warm.told if self.warm.runs else None,
        )  # fmt: skip
        self.study = Study(
            self.folder, config, choices, sampler, known=foresight.known(),
            seeds=self.warm.seeds or self._seeds(compression.members, profile),
        )  # fmt: skip
        self._classroom = Classroom(
            sources=teachers, lesson=lesson, data=data, folder=self.folder, threads=self.evaluator.trainer.threads,
            say=self._say,
        )  # fmt: skip
        self._phase: Literal["base", "search", "verify", "done"] = "base" if config.model else "search"
        self._status: Status | None = None
        self._refresh()

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
                promote=self._promoter(candidate, ask.attempt),
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

    def _promoter(self, candidate: Candidate, attempt: Attempt) -> Callable[[int, float, Draft], bool]:
        """Asynchronous promotion: a candidate goes on unless one that was there before it is as good in everything."""

        def promote(rung: int, accuracy: float, draft: Draft) -> bool:
            cohort = [json.loads(text) for text in self.folder.lines("rungs.jsonl")]
            cohort = [line for line in cohort if line["rung"] == rung]
            mine = next((line for line in cohort if line["key"] == candidate.key), None)
            if mine is None:
                found = {"accuracy": accuracy, "latency": draft.latency.latency_ms, "size": draft.size_bytes}
                mine = {"key": candidate.key, "rung": rung, "values": [found[o] for o in judged]}
                self.folder.append_line("rungs.jsonl", json.dumps(mine))
                attempt.progressed()
            before = itertools.takewhile(lambda line: line["key"] != candidate.key, cohort)
            return bool(non_dominated([*(line["values"] for line in before), mine["values"]], directions(judged))[-1])

        judged = [o for o in self.config.objectives if o != "energy"]  # which is known of finished files only
        return promote

    @property
    def _maximize(self) -> list[bool]:
        return [OBJECTIVES[o] for o in self.config.objectives]

    def _members(self) -> list[Record]:
        """The members of the search front that stand for all of it."""
        front = search_front(self.folder.records(), self.config.objectives)
        points = values(front, self.config.objectives)
        return [front[i] for i in spread(points, self._maximize, self.config.verify)]

    def _same_data(self, data: FaceData) -> str:
        """The data's digest, after making sure that the run was started with the same data."""
        file = self.folder.path / "data.json"
        facts = {"digest": data.digest, "classes": data.classes, "notes": data.notes, "synthetic": data.synthetic}
        facts |= {"train": len(data.train), "val": len(data.val), "test": len(data.test) if data.test else 0}
        facts |= {"name": data.name, "val_name": data.val_name, "test_name": data.test_name}
        if not file.exists():
            self.folder.write("data.json", json.dumps(facts, indent=1))
        elif (before := json.loads(file.read_text())["digest"]) != data.digest:
            raise ConfigError(
                f"{self.folder.path} was started with data of digest {before[:12]}, but this data has "
                f"{data.digest[:12]}; give this run a --name of its own"
            )
        return data.digest

    def _same_target(self, profile: HardwareProfile) -> None:
        """Make sure that all latencies of a run are of one device, and predicted by one model of it."""
        file = self.folder.path / "target.json"
        facts = json.loads(json.dumps(asdict(profile)))
        facts["calibration"] = None if self._is_measured_here(profile) else fingerprint(profile)
        before = json.loads(file.read_text()) if file.exists() else facts
        changed = [name for name in TARGET_FACTS if before.get(name) != facts[name]]
        latencies = [r.latency for r in self.folder.records() if r.latency and r.latency.kind == "predicted"]
        if {latency.versions.get("predictor") for latency in latencies} - PREDICTORS:
            changed.append("version of the predictor")
        if not file.exists() and not changed:
            self.folder.write("target.json", json.dumps(facts, indent=1))
        if changed:
            raise ConfigError(
                f"{self.folder.path} was started with another {', '.join(changed)} of target {self.config.target}, and "
                "latencies of the two do not mix; give this run a --name of its own"
            )

    def _is_measured_here(self, profile: HardwareProfile) -> bool:
        """Whether even drafts are measured, so that no prediction decides anything."""
        return profile.local and device_runtime(profile) is None

    def _refresh(self) -> None:
        """Look at all records anew and tell the status."""
        records = self.folder.records()
        searched = [r for r in records if r.phase == "search"]
        complete = [r for r in searched if r.status == "complete"]
        best = max(complete, key=lambda r: r.objective("accuracy") or 0.0, default=None)
        verifying = self._phase in ("verify", "done")
        self._status = Status(
            run=str(self.folder.path),
            phase=self._phase,
            activity="",
            done=len({(r.key, r.seed) for r in records if r.phase == "verified"}) if verifying else len(searched),
            total=len(self._members()) * self.config.verify_seeds if verifying else self.config.trials,
            feasible=len(complete) / len(searched) if searched else 1.0,
            hypervolume=self._hypervolume(complete),
            best=_in_words(best) if best else "none yet",
            left_s=None,
            forecast=self.allowance.forecast(records) if self._phase == "search" else "",
        )
        self._say("")

    def _hypervolume(self, complete: list[Record]) -> float:
        if not complete:
            return 0.0
        points = values(complete, self.config.objectives)
        worst = np.where(self._maximize, points.min(0), points.max(0))
        return hypervolume(points, worst.tolist(), self._maximize)

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


def _in_words(record: Record) -> str:
    latency = record.latency.latency_ms if record.latency else float("nan")
    return f"{record.objective('accuracy') or 0:.1%} at {latency:.3g} ms (trial {record.trial})"
