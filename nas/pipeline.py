"""The flow, on one page: a candidate goes in, one ONNX file and a record of what was read off it come out.

build, prune the shape, export untrained, count, measure     seconds: nobody trains what cannot be shipped
constraint broken? stop
train in rungs, promote the non-dominated                    minutes
prune, quantise, export, parity gate, score THE FILE, measure THE FILE
"""

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import nn

from hw_profiles._base import HardwareProfile
from nas.candidate import Candidate
from nas.compression.pipeline import Compression
from nas.config import SearchConfig
from nas.data.base import FaceData
from nas.distillation.base import Course
from nas.errors import CandidateError, NasError
from nas.evaluation.constraints import violation_words, violations
from nas.evaluation.finalize import Finisher
from nas.evaluation.latency_evaluator import Stopwatch
from nas.evaluation.proxy import Proxy
from nas.evaluation.untrained import Draft, Drafter
from nas.latency.measured.worker import Timer
from nas.latency.speedup import NO_GAIN
from nas.results.phase_timer import Clock
from nas.results.record import Phase, Record, now
from nas.results.run_folder import RunFolder
from nas.runtimes.base import Runtime
from nas.training.trainer import Start, Stop, Trainer, Watch
from search_spaces._base import SearchSpace

Promote = Callable[[int, float, Draft], bool]
"""(rungs done, accuracy there, the draft) to whether training goes on."""


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Turns candidates into records. All parts are handed in; nothing is looked up here.

    Attributes:
        config: what was asked.
        folder: where files go.
        space: builds nets.
        profile: the target.
        host: this machine.
        compression: what is done to nets.
        runtime: runs files on this machine.
        data: faces.
        digest: of the data, part of every file's metadata.
        board: times finished files on the target itself, where there is a way to it; drafts are predicted then.
        course: what nets learn from teachers; None without any.
        watch: told what is being done, in words.
        proxies: read off each draft that is to be trained.
        start: what candidates begin with; None lets them begin with fresh weights.
        repeat: number of the training, where a candidate is trained several times.
        timer: times files on this machine in a process of its own; None times them in this one.
    """

    config: SearchConfig
    folder: RunFolder
    space: SearchSpace
    profile: HardwareProfile
    host: HardwareProfile
    compression: Compression
    runtime: Runtime
    data: FaceData
    digest: str
    board: Runtime | None = None
    course: Course | None = None
    watch: Watch = lambda _: None
    start: Start | None = None
    proxies: Sequence[Proxy] = ()
    repeat: int = 0
    timer: Timer | None = None

    @property
    def trainer(self) -> Trainer:
        """Builds and trains the nets."""
        return Trainer(
            config=self.config, folder=self.folder, space=self.space, compression=self.compression, data=self.data,
            course=self.course, start=self.start, watch=self.watch, repeat=self.repeat,
        )  # fmt: skip

    @property
    def stopwatch(self) -> Stopwatch:
        """Times the files."""
        return Stopwatch(
            profile=self.profile, host=self.host, runtime=self.runtime, board=self.board, folder=self.folder,
            input_shape=self.data.input_shape, energy="energy" in self.config.objectives, watch=self.watch,
            timer=self.timer,
        )  # fmt: skip

    @property
    def drafter(self) -> Drafter:
        """Says what candidates weigh and how fast they are before any training."""
        return Drafter(config=self.config, trainer=self.trainer, stopwatch=self.stopwatch, proxies=self.proxies)

    @property
    def finisher(self) -> Finisher:
        """Makes files of trained nets, and reads all figures off them."""
        return Finisher(
            config=self.config, folder=self.folder, compression=self.compression, data=self.data, digest=self.digest,
            runtime=self.runtime, trainer=self.trainer, stopwatch=self.stopwatch,
        )  # fmt: skip

    def evaluate(
        self,
        candidate: Candidate,
        *,
        trial: int,
        promote: Promote,
        deadline: Callable[[], bool] = lambda: False,
        stop: Stop | None = None,
    ) -> Record:
        """Everything about one candidate of the search. Never raises for what a candidate can do wrong.

        Args:
            candidate: what to build.
            trial: number of its Optuna trial.
            promote: decides after each rung.
            deadline: whether the time for the search is over; the candidate then ends with the rung it is in.
            stop: asked before each training step; True ends the rung there, and the record says how far it came.
        """
        clock, blank = Clock(), self.blank(candidate, trial, "search")
        return self._caught(blank, clock, lambda: self._evaluated(blank, clock, promote, deadline, stop))

    def verify(self, record: Record, *, epochs: float, stop: Stop | None = None) -> list[Record]:
        """Train a member of the front on from what it has learned, and read all figures off the new file.

        With `repeat` it begins anew, for all of its epochs. Never raises for what a candidate can do wrong.

        Args:
            record: a complete record of the search.
            epochs: passes over the training set, on top of those it had.
            stop: asked before each training step; True ends the training there.

        Returns:
            The member's record; before it that of its float twin, of the same weights, where 8 bits gain nothing.
        """
        clock, blank = Clock(), self.blank(record.candidate, record.trial, "verified")
        trained: list[nn.Module] = []

        def work() -> Record:
            net, told = self._trained_in_full(blank, record, epochs, stop, clock)
            trained.append(net)
            return self.finish(told, net, clock, stop=stop)

        found = self._caught(blank, clock, work)
        twin = self.compression.float_twin(record.candidate)
        if twin is None or found.violations.get(NO_GAIN, 0.0) <= 0:
            return [found]
        note = f"in the place of {blank.key}, whose 8-bit units gain nothing"
        other = replace(blank, key=twin.key, candidate=twin, rung=found.rung, epochs=found.epochs, notes=(note,))
        second = Clock()
        return [self._caught(other, second, lambda: self.finish(other, trained[0], second)), found]

    def draft(self, candidate: Candidate, clock: Clock | None = None) -> Draft:
        """What a candidate weighs and how fast it is, see `nas.evaluation.untrained`.

        Raises:
            CandidateError: it cannot be built, exported or measured.
        """
        return self.drafter.draft(candidate, clock or Clock())

    def finish(self, record: Record, net: nn.Module, clock: Clock, *, stop: Stop | None = None) -> Record:
        """The file of a trained net, and its record with every figure, see `nas.evaluation.finalize`.

        Raises:
            CandidateError: export or parity fails.
        """
        return self.finisher.finish(record, net, clock, stop=stop)

    def _evaluated(
        self,
        blank: Record,
        clock: Clock,
        promote: Promote,
        deadline: Callable[[], bool],
        stop: Stop | None,
    ) -> Record:
        candidate = blank.candidate
        self.watch("export untrained, measure")
        draft = self.draft(candidate, clock)
        likely = self.stopwatch.likely(draft.latency)
        broken = violations(self.config, latency=likely, size_bytes=draft.size_bytes, gained=draft.gain)
        blank = replace(blank, gain=draft.gain, latency=draft.latency)
        if why := violation_words(broken, draft.gain):
            return replace(
                blank, status="infeasible", reason=why, violations=broken, seconds=clock.seconds, host=draft.host,
                size_bytes=draft.size_bytes, params=draft.costs.params, nonzero_params=draft.costs.nonzero_params,
                macs=draft.costs.macs, finished=now(),
            )  # fmt: skip
        trainer, rungs = self.trainer, self.config.rungs
        blank = replace(blank, proxies=self.drafter.proxied(candidate, clock))
        net, rung = trainer.resume(candidate)
        # Asked before each rung, not after: so it is asked again if the process died between rung and answer.
        while net is None or (
            rung < len(rungs) and not deadline() and promote(rung, trainer.quick_accuracy(candidate, net, clock), draft)
        ):
            share = rungs[rung] - (rungs[rung - 1] if rung else 0.0)
            what = f"rung {rung + 1} of {len(rungs)}"
            had = rungs[rung - 1] * self.config.epochs if rung else 0.0
            cycle = self.trainer.cycle(what, rung, share * self.config.epochs, had)
            net, came = self.trainer.train(candidate, net, cycle, clock, stop)
            rung += 1
            if stop is not None and stop():  # not kept as a finished rung
                return self.finish(replace(blank, rung=rung, epochs=had + came), net, clock)
            self.trainer.save(candidate, net, rung)
        return self.finish(replace(blank, rung=rung, epochs=rungs[rung - 1] * self.config.epochs), net, clock)

    def _trained_in_full(
        self, blank: Record, record: Record, epochs: float, stop: Stop | None, clock: Clock
    ) -> tuple[nn.Module, Record]:
        """The net of a member after its final training, and its record so far."""
        net, rung = self.trainer.resume(record.candidate)
        had = self.config.rungs[rung - 1] * self.config.epochs if net is not None else 0.0
        if net is None:  # its weights are gone: it is trained from scratch, for all of its epochs
            epochs += record.epochs
        cycle = self.trainer.cycle("final training", len(self.config.rungs), epochs, had)
        trained, came = self.trainer.train(record.candidate, net, cycle, clock, stop)
        return trained, replace(blank, rung=max(rung, record.rung), epochs=had + came)

    def _caught(self, blank: Record, clock: Clock, work: Callable[[], Record]) -> Record:
        """What `work` returns, or why it failed: one candidate must never stop a search of hours."""
        try:
            return work()
        except CandidateError as error:
            why = _one_line(error)
        except NasError:
            raise
        except Exception as error:
            why = f"{type(error).__name__}: {_one_line(error)}"
        return replace(blank, status="failed", reason=why, seconds=clock.seconds, finished=now())

    def blank(self, candidate: Candidate, trial: int, phase: Phase) -> Record:
        """A record without figures, which counts as failed."""
        worker = f"{platform.node()}/{os.getpid()}"
        taught = self.trainer.course_of(candidate, len(self.config.rungs) if phase != "search" else 0)
        return Record(
            trial=trial, key=candidate.key, status="failed", phase=phase, seed=self.repeat, candidate=candidate,
            worker=worker, teacher=taught.about if taught else "",
        )  # fmt: skip

    def failed(self, candidate: Candidate, *, trial: int, phase: Phase, reason: str) -> Record:
        """The record of a candidate that was given up, for this reason."""
        return replace(self.blank(candidate, trial, phase), reason=reason, finished=now())


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]
