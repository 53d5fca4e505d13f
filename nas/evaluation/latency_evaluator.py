"""The latencies of a candidate's files: on this machine, and on the target, where they are measured or predicted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hw_profiles._base import HardwareProfile
from nas.errors import MeasureError
from nas.evaluation.online_latency import OnlineLatencyModel, is_confident
from nas.latency.costs import Costs
from nas.latency.estimate import Latency, corrected_for_load
from nas.latency.measured.timing import IDLE_WAIT_S, measure, measure_interleaved, measure_on_device
from nas.latency.measured.timing_loop import TimingPlan
from nas.latency.measured.worker import TimingWorker
from nas.latency.predicted.predict import predict_latency as predict_latency
from nas.results.run_folder import RunFolder
from nas.runtimes.base import DeviceRuntime, Runtime

MAX_SEARCH_RUNS = 200
"""Timed runs of a draft, and of a finished file during the search, at most."""
MAX_FINAL_RUNS = 400
"""Timed runs of a file that was trained in full, at most."""
MIN_FINAL_RUNS = 200
"""Of a file that was trained in full, however long they take."""
UNTRAINED_LIMIT_S = 1.0
"""Seconds that timing a draft and its twin may take."""
SEARCH_LIMIT_S = 2.0
"""Seconds that timing a finished file may take during the search."""
PRECHECK_LIMIT_S = 0.25
FINAL_PATIENCE_S = IDLE_WAIT_S
"""How long a file that was trained in full waits for a calm machine."""
SEARCH_PATIENCE_S = 0.3

PREDICTED_BEFORE_NOTE = (
    "measured on the finished file; what was decided before and during training rests on a prediction"
)
ONLINE_PREDICTION_NOTE = (
    "learned from what this search measured on the target; not measured there, as it is sure and off the front"
)
UNTRAINED_NOTE = "measured on the untrained file, and not again, as it is off the front"


@dataclass(frozen=True, kw_only=True)
class LatencyEvaluator:
    """Times files here, and says what they take on the target.

    Attributes:
        profile: the target.
        host: this machine.
        runtime: runs files on this machine.
        board: times files on the target itself, where there is a way to it.
        input_shape: (C, H, W) of the files' input.
        energy: whether the board shall measure energy too.
        folder: where the logs of failures go, and what a board has told.
        watch: told what is being done, in words.
        timer: a process of its own that times on this machine; None times in this one.
    """

    profile: HardwareProfile
    host_profile: HardwareProfile
    host_runtime: Runtime
    device_runtime: DeviceRuntime | None
    input_shape: tuple[int, int, int]
    measures_energy: bool
    folder: RunFolder
    log: Callable[[str], None]
    timing_worker: TimingWorker | None = None

    def measure_untrained(
        self, paths: Sequence[Path], file_costs: Sequence[Costs], *, key: str = "", limit_ms: float | None = None
    ) -> list[Latency]:
        """Latencies of untrained files on the target, quickly. All are measured, or all are predicted.

        On this machine timing ends as soon as it is precise, surely above the limit, or the time is up. A board is
        asked where the prediction is not sure, unless it is sure that the limit is broken.

        Args:
            paths: the candidate's file and, where it has one, its twin's.
            file_costs: what each of them costs.
            key: of the candidate.
            limit_ms: what the candidate must not exceed.

        Raises:
            MeasureError: the device gives no figure; the end of a board's log is kept under the candidate's key.
        """
        if self.is_on_host:
            plan = TimingPlan(
                runs=MAX_SEARCH_RUNS,
                relative_precision=0.01,
                max_duration_s=UNTRAINED_LIMIT_S,
                idle_wait_s=SEARCH_PATIENCE_S,
                early_stop_above_ms=limit_ms,
            )
            return self.measure_on_host(paths, plan)
        predicted = [self._predict(each) for each in file_costs]
        is_out = limit_ms is not None and predicted[0].low_ms > limit_ms
        if self.device_runtime is None or is_out or all(map(is_confident, predicted)):
            return predicted
        return self._measure_on_device(paths, file_costs, key)

    def is_clearly_above(self, path: Path, file_costs: Costs, limit_ms: float) -> bool:
        """Whether a short look at an untrained file tells that it takes longer than so many milliseconds."""
        if not self.is_on_host:
            return self._predict(file_costs).low_ms > limit_ms and self.device_runtime is not None
        plan = TimingPlan(
            runs=MAX_SEARCH_RUNS,
            min_runs=5,
            max_duration_s=PRECHECK_LIMIT_S,
            early_stop_above_ms=limit_ms,
            relative_precision=0.02,
        )
        found = self.measure_on_host([path], plan)[0]
        return corrected_for_load(found).low_ms > limit_ms

    def measure_final(
        self,
        paths: Sequence[Path],
        file_costs: Sequence[Costs],
        *,
        key: str = "",
        is_final: bool = True,
        untrained_latency: Latency | None = None,
        would_enter_front: Callable[[Latency], bool] = lambda _: True,
    ) -> tuple[list[Latency], list[Latency]]:
        """Latencies of finished files on the target, and on this machine.

        Args:
            paths: the candidate's file and, where it is timed beside one, its twin's.
            file_costs: what each of them costs.
            key: of the candidate.
            verified: whether they were trained in full: then they are measured at length, and by a board in any case.
            draft: what the untrained file took.
            enters: whether the candidate would enter the front with such a latency.

        Raises:
            MeasureError: the device gives no figure; the end of a board's log is kept under the candidate's key.
        """
        full = TimingPlan(
            runs=MAX_FINAL_RUNS,
            min_runs=min(MIN_FINAL_RUNS, MAX_FINAL_RUNS),
            relative_precision=0.003,
            idle_wait_s=FINAL_PATIENCE_S,
        )
        quick = TimingPlan(runs=MAX_SEARCH_RUNS, max_duration_s=SEARCH_LIMIT_S, idle_wait_s=SEARCH_PATIENCE_S)
        hosts = self.measure_on_host(paths, full if is_final else quick)
        if self.device_runtime is None:
            return list(hosts) if self.profile.local else [self._predict(c) for c in file_costs], hosts
        if (
            untrained_latency is not None
            and not is_final
            and not self.measures_energy
            and not would_enter_front(self.lower_bound(untrained_latency))
        ):
            if untrained_latency.kind == "measured":
                return [replace(untrained_latency, notes=(*untrained_latency.notes, UNTRAINED_NOTE))], hosts
            if is_confident(untrained_latency):
                return [replace(untrained_latency, notes=(*untrained_latency.notes, ONLINE_PREDICTION_NOTE))], hosts
        found = self._measure_on_device(paths, file_costs, key)
        told = (
            (PREDICTED_BEFORE_NOTE,) if untrained_latency is not None and untrained_latency.kind == "predicted" else ()
        )
        return [replace(each, notes=(*each.notes, *told)) for each in found], hosts

    def measure_on_host(self, paths: Sequence[Path], plan: TimingPlan) -> list[Latency]:
        """Latencies on this machine; several files side by side, so that they can be compared."""
        device, shapes = self.host_profile.title, [self.input_shape] * len(paths)
        if self.timing_worker is not None:
            return self.timing_worker.measure(
                paths, runtime=self.host_runtime.name, device=device, input_shape=shapes, plan=plan
            )
        if len(paths) == 1:
            return [measure(paths[0], self.host_runtime, device=device, input_shape=self.input_shape, plan=plan)]
        return measure_interleaved(paths, self.host_runtime, device=device, input_shape=shapes, plan=plan)

    def lower_bound(self, latency: Latency) -> Latency:
        """What is held against limits: a prediction where the device has the last word counts as its lower end."""
        is_guess = self.device_runtime is not None and latency.kind == "predicted"
        return replace(latency, latency_ms=latency.low_ms) if is_guess else latency

    @property
    def is_on_host(self) -> bool:
        """Whether this machine's runtime times the target."""
        return self.profile.local and self.device_runtime is None

    @property
    def online_model(self) -> OnlineLatencyModel:
        """What was learned of the board in this run."""
        return OnlineLatencyModel(folder=self.folder, profile=self.profile)

    def _predict(self, file_costs: Costs) -> Latency:
        """By what this run has learned of its board, or by the target's calibration or profile, whichever is surer."""
        known = predict_latency(file_costs, self.profile)
        learned = self.online_model.predict(file_costs) if self.device_runtime is not None else None
        return learned if learned is not None and _relative_width(learned) < _relative_width(known) else known

    def _measure_on_device(self, paths: Sequence[Path], file_costs: Sequence[Costs], key: str) -> list[Latency]:
        """What the board takes for the files.

        Raises:
            MeasureError: the board gives no figure; the end of its log is kept under the candidate's key.
        """
        assert self.device_runtime is not None  # noqa: S101
        answers = measure_on_device(
            paths, self.device_runtime, self.profile, with_energy=self.measures_energy, log=self.log
        )
        found = []
        for path, answer, costs in zip(paths, answers, file_costs, strict=True):
            if isinstance(answer, MeasureError):
                if answer.log_lines:
                    self.folder.write(f"models/{key or path.stem}-board.log", "\n".join(answer.log_lines) + "\n")
                raise answer
            self.online_model.add(path.stem, costs, answer)
            found.append(answer)
        return found


def _relative_width(predicted: Latency) -> float:
    return (predicted.high_ms - predicted.low_ms) / predicted.latency_ms
