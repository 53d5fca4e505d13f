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
from nas.compression.pipeline import CompressionPipeline
from nas.config import SearchConfig
from nas.data.base import FaceData
from nas.distillation.base import Distillation
from nas.errors import CandidateError, NasError, one_line
from nas.evaluation.constraints import describe_violations, violations
from nas.evaluation.finalize import ArtifactEvaluator
from nas.evaluation.latency_evaluator import LatencyEvaluator
from nas.evaluation.proxy import Proxy
from nas.evaluation.untrained import UntrainedEvaluator, UntrainedMetrics
from nas.latency.measured.worker import TimingWorker
from nas.latency.speedup import NO_GAIN
from nas.results.phase_timer import PhaseTimer
from nas.results.record import Phase, Record, utc_timestamp
from nas.results.run_folder import RunFolder
from nas.runtimes.base import Runtime
from nas.training.trainer import InitialWeights, LogFunction, ShouldStop, Trainer
from search_spaces._base import SearchSpace

Promote = Callable[[int, float, UntrainedMetrics], bool]
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
    host_profile: HardwareProfile
    compression: CompressionPipeline
    host_runtime: Runtime
    data: FaceData
    data_digest: str
    device_runtime: Runtime | None = None
    distillation: Distillation | None = None
    log: LogFunction = lambda _: None
    initial_weights: InitialWeights | None = None
    proxies: Sequence[Proxy] = ()
    seed_index: int = 0
    timing_worker: TimingWorker | None = None

    @property
    def trainer(self) -> Trainer:
        """Builds and trains the nets."""
        return Trainer(
            config=self.config, folder=self.folder, space=self.space, compression=self.compression, data=self.data,
            distillation=self.distillation, initial_weights=self.initial_weights, log=self.log, seed_index=self.seed_index,
        )  # fmt: skip

    @property
    def latency_evaluator(self) -> LatencyEvaluator:
        """Times the files."""
        return LatencyEvaluator(
            profile=self.profile, host_profile=self.host_profile, host_runtime=self.host_runtime, device_runtime=self.device_runtime, folder=self.folder,
            input_shape=self.data.input_shape, measures_energy="energy" in self.config.search.objectives, log=self.log,
            timing_worker=self.timing_worker,
        )  # fmt: skip

    @property
    def untrained_evaluator(self) -> UntrainedEvaluator:
        """Says what candidates weigh and how fast they are before any training."""
        return UntrainedEvaluator(
            config=self.config, trainer=self.trainer, latency_evaluator=self.latency_evaluator, proxies=self.proxies
        )

    @property
    def artifact_evaluator(self) -> ArtifactEvaluator:
        """Makes files of trained nets, and reads all figures off them."""
        return ArtifactEvaluator(
            config=self.config, folder=self.folder, compression=self.compression, data=self.data, data_digest=self.data_digest,
            host_runtime=self.host_runtime, trainer=self.trainer, latency_evaluator=self.latency_evaluator,
        )  # fmt: skip

    def evaluate(
        self,
        candidate: Candidate,
        *,
        trial: int,
        promote: Promote,
        is_search_over: Callable[[], bool] = lambda: False,
        stop: ShouldStop | None = None,
    ) -> Record:
        """Everything about one candidate of the search. Never raises for what a candidate can do wrong.

        Args:
            candidate: what to build.
            trial: number of its Optuna trial.
            promote: decides after each rung.
            deadline: whether the time for the search is over; the candidate then ends with the rung it is in.
            stop: asked before each training step; True ends the rung there, and the record says how far it came.
        """
        clock, blank = PhaseTimer(), self.empty_record(candidate, trial, "search")
        return self._catch_failure(blank, clock, lambda: self._evaluate(blank, clock, promote, is_search_over, stop))

    def train_final(self, record: Record, *, epochs: float, stop: ShouldStop | None = None) -> list[Record]:
        """Train a member of the front on from what it has learned, and read all figures off the new file.

        With `repeat` it begins anew, for all of its epochs. Never raises for what a candidate can do wrong.

        Args:
            record: a complete record of the search.
            epochs: passes over the training set, on top of those it had.
            stop: asked before each training step; True ends the training there.

        Returns:
            The member's record; before it that of its float twin, of the same weights, where 8 bits gain nothing.
        """
        clock, blank = PhaseTimer(), self.empty_record(record.candidate, record.trial, "verified")
        trained: list[nn.Module] = []

        def work() -> Record:
            net, told = self._train_final(blank, record, epochs, stop, clock)
            trained.append(net)
            return self.finalize(told, net, clock, stop=stop)

        found = self._catch_failure(blank, clock, work)
        twin = self.compression.fp32_baseline(record.candidate)
        if twin is None or found.violations.get(NO_GAIN, 0.0) <= 0:
            return [found]
        note = f"in the place of {blank.key}, whose 8-bit units gain nothing"
        other = replace(blank, key=twin.key, candidate=twin, rung=found.rung, epochs=found.epochs, notes=(note,))
        second = PhaseTimer()
        return [self._catch_failure(other, second, lambda: self.finalize(other, trained[0], second)), found]

    def evaluate_untrained(self, candidate: Candidate, phase_timer: PhaseTimer | None = None) -> UntrainedMetrics:
        """What a candidate weighs and how fast it is, see `nas.evaluation.untrained`.

        Raises:
            CandidateError: it cannot be built, exported or measured.
        """
        return self.untrained_evaluator.evaluate(candidate, phase_timer or PhaseTimer())

    def finalize(
        self, record: Record, net: nn.Module, phase_timer: PhaseTimer, *, stop: ShouldStop | None = None
    ) -> Record:
        """The file of a trained net, and its record with every figure, see `nas.evaluation.finalize`.

        Raises:
            CandidateError: export or parity fails.
        """
        return self.artifact_evaluator.finalize(record, net, phase_timer, stop=stop)

    def _evaluate(
        self,
        blank: Record,
        phase_timer: PhaseTimer,
        promote: Promote,
        is_search_over: Callable[[], bool],
        stop: ShouldStop | None,
    ) -> Record:
        candidate = blank.candidate
        self.log("export untrained, measure")
        draft = self.evaluate_untrained(candidate, phase_timer)
        likely = self.latency_evaluator.lower_bound(draft.latency)
        broken = violations(self.config, latency=likely, size_bytes=draft.size_bytes, int8_speedup=draft.int8_speedup)
        blank = replace(blank, gain=draft.int8_speedup, latency=draft.latency)
        if why := describe_violations(broken, draft.int8_speedup):
            return replace(
                blank, status="infeasible", reason=why, violations=broken, seconds=phase_timer.seconds, host=draft.host_latency,
                size_bytes=draft.size_bytes, params=draft.costs.params, nonzero_params=draft.costs.nonzero_params,
                macs=draft.costs.macs, finished=utc_timestamp(),
            )  # fmt: skip
        trainer, rungs = self.trainer, self.config.training.rungs
        blank = replace(blank, proxies=self.untrained_evaluator.proxy_scores(candidate, phase_timer))
        net, rung = trainer.load_checkpoint(candidate)
        # Asked before each rung, not after: so it is asked again if the process died between rung and answer.
        while net is None or (
            rung < len(rungs)
            and not is_search_over()
            and promote(rung, trainer.float_accuracy(candidate, net, phase_timer), draft)
        ):
            share = rungs[rung] - (rungs[rung - 1] if rung else 0.0)
            what = f"rung {rung + 1} of {len(rungs)}"
            had = rungs[rung - 1] * self.config.training.epochs if rung else 0.0
            cycle = self.trainer.make_phase(what, rung, share * self.config.training.epochs, had)
            net, came = self.trainer.train(candidate, net, cycle, phase_timer, stop)
            rung += 1
            if stop is not None and stop():  # not kept as a finished rung
                return self.finalize(replace(blank, rung=rung, epochs=had + came), net, phase_timer)
            self.trainer.save_checkpoint(candidate, net, rung)
        return self.finalize(
            replace(blank, rung=rung, epochs=rungs[rung - 1] * self.config.training.epochs), net, phase_timer
        )

    def _train_final(
        self, blank: Record, record: Record, epochs: float, stop: ShouldStop | None, phase_timer: PhaseTimer
    ) -> tuple[nn.Module, Record]:
        """The net of a member after its final training, and its record so far."""
        net, rung = self.trainer.load_checkpoint(record.candidate)
        had = self.config.training.rungs[rung - 1] * self.config.training.epochs if net is not None else 0.0
        if net is None:  # its weights are gone: it is trained from scratch, for all of its epochs
            epochs += record.epochs
        cycle = self.trainer.make_phase("final training", len(self.config.training.rungs), epochs, had)
        trained, came = self.trainer.train(record.candidate, net, cycle, phase_timer, stop)
        return trained, replace(blank, rung=max(rung, record.rung), epochs=had + came)

    def _catch_failure(self, blank: Record, phase_timer: PhaseTimer, work: Callable[[], Record]) -> Record:
        """What `work` returns, or why it failed: one candidate must never stop a search of hours."""
        try:
            return work()
        except CandidateError as error:
            why = one_line(error, max_length=500)
        except NasError:
            raise
        except Exception as error:
            why = f"{type(error).__name__}: {one_line(error, max_length=500)}"
        return replace(blank, status="failed", reason=why, seconds=phase_timer.seconds, finished=utc_timestamp())

    def empty_record(self, candidate: Candidate, trial: int, phase: Phase) -> Record:
        """A record without figures, which counts as failed."""
        worker = f"{platform.node()}/{os.getpid()}"
        taught = self.trainer.distillation_for(candidate, len(self.config.training.rungs) if phase != "search" else 0)
        return Record(
            trial=trial, key=candidate.key, status="failed", phase=phase, seed=self.seed_index, candidate=candidate,
            worker=worker, teacher=taught.description if taught else "",
        )  # fmt: skip

    def failed_record(self, candidate: Candidate, *, trial: int, phase: Phase, reason: str) -> Record:
        """The record of a candidate that was given up, for this reason."""
        return replace(self.empty_record(candidate, trial, phase), reason=reason, finished=utc_timestamp())
