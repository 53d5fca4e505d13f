"""Evaluator: takes the steps of `nas.pipeline` for a candidate, and gives back what each has found out.

A fault of the candidate ends in a failed record. One of the user or of the machine is raised: the next candidate would
meet it too.
"""

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from torch import nn

from hw_profiles._base import HardwareProfile
from nas.candidate import Candidate
from nas.compression.pipeline import CompressionPipeline
from nas.config import SearchConfig
from nas.data.base import FaceData
from nas.distillation.base import Distillation
from nas.errors import CandidateError, NasError, StepPausedError, find_system_error, one_line
from nas.evaluation.constraints import describe_violations, violations
from nas.evaluation.latency_evaluator import LatencyEvaluator
from nas.evaluation.proxy import Proxy
from nas.evaluation.trained import ArtifactEvaluator
from nas.evaluation.untrained import UntrainedEvaluator, UntrainedMetrics
from nas.latency.int8_speedup import NO_GAIN
from nas.latency.measured.quiet_host import QuietHost
from nas.latency.measured.worker import TimingWorker
from nas.results.phase_timer import PhaseTimer
from nas.results.record import Phase, Record, utc_timestamp
from nas.results.run_folder import RunFolder
from nas.runtimes.base import DeviceRuntime, Runtime
from nas.targets.catalog import local_runtime
from nas.training.checkpoints import Checkpoints
from nas.training.model_builder import ModelBuilder
from nas.training.trainer import InitialWeights, LogFunction, ShouldStop, Trainer, never
from search_spaces._base import SearchSpace

MAX_REASON_CHARACTERS = 500


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a step has found out about a candidate.

    Attributes:
        record: with all figures so far.
        is_final: whether the record is complete, so that no step follows.
        untrained: figures before training, from the draft; else None.
        accuracy: of the float network at the end of a rung, 0..1; None where no decision follows.
    """

    record: Record
    is_final: bool = False
    untrained: UntrainedMetrics | None = None
    accuracy: float | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Turns candidates into records.

    Everything is handed in. The parts that do the work are made once, at first use; `dataclasses.replace` gives an
    evaluator with parts of its own that follow the replaced values.

    Attributes:
        config: configuration of the search.
        folder: of the run; files, checkpoints and records go there.
        space: search space.
        profile: hardware profile of the target.
        host_profile: hardware profile of this machine.
        compression: compressors for the target.
        host_runtime: runs files on this machine.
        data: images, labels and splits.
        data_digest: digest of the data, part of every file's metadata.
        device_runtime: times files on the target device; None where the target cannot be reached, or is this machine.
        distillation: loss and teachers; None without teachers.
        log: receives one line of text about each step.
        initial_weights: weights that every candidate starts from; None starts from fresh ones.
        proxies: zero-cost proxies to record for each candidate that is to be trained.
        seed_index: number of the training, where a candidate is trained several times.
        timing_worker: process that times files on this machine; None times them in this process.
        quiet_host: has the other workers of this machine hold still meanwhile; None where there are none.
        should_pause: called before each training step; True ends the step of the flow with `StepPausedError`.
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
    device_runtime: DeviceRuntime | None = None
    distillation: Distillation | None = None
    log: LogFunction = lambda _: None
    initial_weights: InitialWeights | None = None
    proxies: Sequence[Proxy] = ()
    seed_index: int = 0
    timing_worker: TimingWorker | None = None
    quiet_host: QuietHost | None = None
    should_pause: Callable[[], bool] = never

    def draft(self, record: Record, *, stop: ShouldStop | None = None) -> Progress:
        """Step 1 and 2: export the candidate untrained, count and measure; final where it violates a constraint."""

        def work(timer: PhaseTimer) -> Progress:
            self.log("export untrained, measure")
            untrained = self.evaluate_untrained(record.candidate, timer)
            measured = replace(record, gain=untrained.int8_speedup, latency=untrained.latency)
            if infeasible := self._infeasible_record(measured, untrained, timer):
                return Progress(record=infeasible, is_final=True)
            scores = self.untrained_evaluator.proxy_scores(record.candidate, timer)
            return Progress(record=replace(measured, proxies=scores, seconds=timer.seconds), untrained=untrained)

        return self._catch_failure(record, work)

    def train_rung(self, record: Record, *, rung: int, stop: ShouldStop | None = None) -> Progress:
        """Step 3: train for the rung after so many finished ones; final where `stop` ended it."""

        def work(timer: PhaseTimer) -> Progress:
            candidate, n_rungs = record.candidate, len(self.config.training.rungs)
            previous_epochs = self._epochs_after(rung)
            net, _ = self.checkpoints.load(candidate)
            phase = self.trainer.make_phase(
                f"rung {rung + 1} of {n_rungs}", rung, self._rung_epochs(rung), previous_epochs
            )
            net, epochs = self.trainer.train(candidate, net, phase, timer, stop)
            if stop is not None and stop():  # an incomplete rung leaves no checkpoint
                cut_short = replace(record, rung=rung + 1, epochs=previous_epochs + epochs)
                return Progress(record=self.finalize(cut_short, net, timer), is_final=True)
            self.checkpoints.save(candidate, net, rung + 1)
            accuracy = self.trainer.float_accuracy(candidate, net, timer) if rung + 1 < n_rungs else None
            return Progress(record=replace(record, seconds=timer.seconds), accuracy=accuracy)

        return self._catch_failure(record, work)

    def score_rung(self, record: Record, *, stop: ShouldStop | None = None) -> Progress:
        """Accuracy of the last checkpoint, for a search that was interrupted before it decided on the next rung."""

        def work(timer: PhaseTimer) -> Progress:
            net, rung = self.checkpoints.load(record.candidate)
            if net is None:
                raise CandidateError(f"the checkpoint of rung {rung} must be there, but is not; repeat the search")
            accuracy = self.trainer.float_accuracy(record.candidate, net, timer)
            return Progress(record=replace(record, seconds=timer.seconds), accuracy=accuracy)

        return self._catch_failure(record, work)

    def finish(self, record: Record, *, front: Sequence[Record] = (), stop: ShouldStop | None = None) -> Progress:
        """Step 4: the file of the last checkpoint, and the complete record.

        Args:
            record: with the figures of the steps before.
            front: of the search so far; a device that can be reached measures what may enter it.
            stop: ignored; the step takes seconds.
        """

        def work(timer: PhaseTimer) -> Progress:
            net, rung = self.checkpoints.load(record.candidate)
            if net is None:
                raise CandidateError("the last checkpoint must be there, but is not; repeat the search")
            trained = replace(record, rung=rung, epochs=self._epochs_after(rung))
            return Progress(record=self.finalize(trained, net, timer, front=front), is_final=True)

        return self._catch_failure(record, work)

    def _infeasible_record(self, record: Record, untrained: UntrainedMetrics, timer: PhaseTimer) -> Record | None:
        """The final record of a candidate that violates a constraint before training; None where it violates none."""
        broken = violations(
            self.config.limits, self.config.search.objectives,
            latency=self.latency_evaluator.lower_bound(untrained.latency), size_bytes=untrained.size_bytes,
            memory_bytes=untrained.costs.memory_bytes, int8_speedup=untrained.int8_speedup,
        )  # fmt: skip
        reason = describe_violations(broken, untrained.int8_speedup)
        if not reason:
            return None
        return replace(
            record, status="infeasible", reason=reason, violations=broken, seconds=timer.seconds,
            host=untrained.host_latency, size_bytes=untrained.size_bytes, params=untrained.costs.params,
            nonzero_params=untrained.costs.nonzero_params, macs=untrained.costs.macs,
            activation_bytes=untrained.costs.activation_bytes, memory_bytes=untrained.costs.memory_bytes,
            finished=utc_timestamp(),
        )  # fmt: skip

    def train_final(self, record: Record, *, epochs: float, stop: ShouldStop | None = None) -> list[Record]:
        """Train a member of the front further, and read all figures off the new file.

        The first training (`seed_index` 0) continues from the checkpoint of the search. Further ones start from fresh
        weights, and add the epochs of the search. A fault of the candidate ends in a failed record.

        Args:
            record: a complete record of the search.
            epochs: passes over the training split, on top of those of the search.
            stop: called before each training step; True ends the training there.

        Returns:
            The record of the member. Before it, where INT8 is no faster, that of its FP32 baseline, of the same
            weights.

        Raises:
            NasError: the user has to change something; it is no fault of this candidate.
            OSError, MemoryError: the machine lacks room, memory or access; it is no fault of this candidate.
        """
        empty = self.empty_record(record.candidate, record.trial, "verified")
        trained: list[nn.Module] = []

        def train_and_finalize(timer: PhaseTimer) -> Progress:
            net, progress = self._train_final(empty, record, epochs, stop, timer)
            trained.append(net)
            return Progress(record=self.finalize(progress, net, timer, stop=stop), is_final=True)

        verified = self._catch_failure(empty, train_and_finalize).record
        self.checkpoints.forget_states(record.candidate)
        baseline = self.compression.fp32_baseline(record.candidate)
        if baseline is None or verified.violations.get(NO_GAIN, 0.0) <= 0:
            return [verified]
        note = f"in the place of {empty.key}, whose 8-bit units gain nothing"
        other = replace(
            empty, key=baseline.key, candidate=baseline, rung=verified.rung, epochs=verified.epochs, notes=(note,)
        )

        def finalize_baseline(timer: PhaseTimer) -> Progress:
            return Progress(record=self.finalize(other, trained[0], timer), is_final=True)

        return [self._catch_failure(other, finalize_baseline).record, verified]

    def _train_final(
        self, empty: Record, record: Record, epochs: float, stop: ShouldStop | None, timer: PhaseTimer
    ) -> tuple[nn.Module, Record]:
        """The network of a member after its final training, and its new record with rung and epochs."""
        net, rung = self.checkpoints.load(record.candidate)
        previous_epochs = self._epochs_after(rung) if net is not None else 0.0
        if net is None:
            epochs += record.epochs
        n_rungs = len(self.config.training.rungs)
        phase = self.trainer.make_phase("final training", n_rungs, epochs, previous_epochs)
        trained, new_epochs = self.trainer.train(record.candidate, net, phase, timer, stop)
        return trained, replace(empty, rung=max(rung, record.rung), epochs=previous_epochs + new_epochs)

    def evaluate_untrained(self, candidate: Candidate, phase_timer: PhaseTimer | None = None) -> UntrainedMetrics:
        """Costs, size and latency of a candidate before training, see `nas.evaluation.untrained`.

        Raises:
            CandidateError: it cannot be built, exported or measured.
        """
        return self.untrained_evaluator.evaluate(candidate, phase_timer or PhaseTimer())

    def finalize(
        self,
        record: Record,
        net: nn.Module,
        phase_timer: PhaseTimer,
        *,
        front: Sequence[Record] = (),
        stop: ShouldStop | None = None,
    ) -> Record:
        """Write the file of a trained network, and complete its record from it, see `nas.evaluation.trained`.

        Raises:
            CandidateError: export, parity or timing fails.
        """
        return self.artifact_evaluator.finalize(record, net, phase_timer, front=front, stop=stop)

    def empty_record(self, candidate: Candidate, trial: int, phase: Phase) -> Record:
        """A record without figures, with the status "failed"."""
        phase_index = 0 if phase == "search" else len(self.config.training.rungs)
        distillation = self.trainer.distillation_for(candidate, phase_index)
        return Record(
            trial=trial, key=candidate.key, status="failed", phase=phase, seed=self.seed_index, candidate=candidate,
            worker=_this_process(), teacher=distillation.description if distillation else "",
        )  # fmt: skip

    def failed_record(self, candidate: Candidate, *, trial: int, phase: Phase, reason: str) -> Record:
        """The record of a candidate that failed for this reason, one line."""
        return replace(self.empty_record(candidate, trial, phase), reason=reason, finished=utc_timestamp())

    def _catch_failure(self, record: Record, work: Callable[[PhaseTimer], Progress]) -> Progress:
        """The result of `work`, or a final failed record: one candidate must not end a search of hours.

        The timer that `work` gets goes on from the seconds of the record.
        """
        timer = PhaseTimer(dict(record.seconds))
        try:
            progress = work(timer)
            return replace(progress, record=replace(progress.record, worker=_this_process()))
        except StepPausedError:
            raise
        except Exception as error:
            if isinstance(error, NasError) and not isinstance(error, CandidateError):
                raise  # the user's to mend, and the same for the next candidate
            if fault := find_system_error(error):  # the machine's, and the same for the next candidate
                raise fault from error
            reason = one_line(error, max_length=MAX_REASON_CHARACTERS)
            if not isinstance(error, CandidateError):
                reason = f"{type(error).__name__}: {reason}"
        empty = self.empty_record(record.candidate, record.trial, record.phase)
        return Progress(
            record=replace(
                empty, key=record.key, notes=record.notes, rung=record.rung if record.phase != "search" else 0,
                epochs=record.epochs if record.phase != "search" else 0.0, reason=reason, seconds=timer.seconds,
                finished=utc_timestamp(),
            ),
            is_final=True,
        )  # fmt: skip

    def _epochs_after(self, rung: int) -> float:
        """Epochs that a candidate has trained for after so many rungs."""
        return self.config.training.rungs[rung - 1] * self.config.training.epochs if rung else 0.0

    def _rung_epochs(self, rung: int) -> float:
        """Epochs of the rung that follows so many finished ones."""
        rungs = self.config.training.rungs
        return (rungs[rung] - (rungs[rung - 1] if rung else 0.0)) * self.config.training.epochs

    # The parts, each made once and handed to those that need it.

    @cached_property
    def builder(self) -> ModelBuilder:
        """Builds the networks of candidates."""
        return ModelBuilder(
            compression_config=self.config.compression, space=self.space, compression=self.compression, data=self.data,
            seed=self.config.run.seed, seed_index=self.seed_index,
        )  # fmt: skip

    @cached_property
    def checkpoints(self) -> Checkpoints:
        """Saves and restores the progress of candidates."""
        return Checkpoints(folder=self.folder, builder=self.builder, n_rungs=len(self.config.training.rungs))

    @cached_property
    def trainer(self) -> Trainer:
        """Trains networks."""
        return Trainer(
            training_config=self.config.training, compression_config=self.config.compression,
            distillation_config=self.config.distillation, run_config=self.config.run, builder=self.builder,
            checkpoints=self.checkpoints, data=self.data, distillation=self.distillation,
            initial_weights=self.initial_weights, log=self.log, should_pause=self.should_pause,
        )  # fmt: skip

    @cached_property
    def latency_evaluator(self) -> LatencyEvaluator:
        """Measures or predicts the latency of files."""
        # A target that is this machine may have another runtime than the one that scores files, for example its GPU's.
        here = local_runtime(self.profile)
        return LatencyEvaluator(
            profile=self.profile, host_profile=self.host_profile if here is None else self.profile,
            host_runtime=here or self.host_runtime,
            device_runtime=self.device_runtime, input_shape=self.data.input_shape,
            measures_energy="energy" in self.config.search.objectives, folder=self.folder, log=self.log,
            timing_worker=self.timing_worker, quiet_host=self.quiet_host,
            measures_placement=self.config.limits.max_dla_fallback is not None,
        )  # fmt: skip

    @cached_property
    def untrained_evaluator(self) -> UntrainedEvaluator:
        """Takes step 1: candidates before training."""
        return UntrainedEvaluator(
            limits=self.config.limits, folder=self.folder, builder=self.builder, compression=self.compression,
            data=self.data, latency_evaluator=self.latency_evaluator, proxies=self.proxies,
        )  # fmt: skip

    @cached_property
    def artifact_evaluator(self) -> ArtifactEvaluator:
        """Takes step 4: files of trained networks."""
        return ArtifactEvaluator(
            objectives=self.config.search.objectives, limits=self.config.limits,
            compression_config=self.config.compression, folder=self.folder, compression=self.compression,
            data=self.data, data_digest=self.data_digest, host_runtime=self.host_runtime, builder=self.builder,
            trainer=self.trainer, latency_evaluator=self.latency_evaluator, log=self.log,
        )  # fmt: skip


def _this_process() -> str:
    return f"{platform.node()}/{os.getpid()}"
