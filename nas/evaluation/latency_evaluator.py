"""Latency evaluator: measures a candidate's files on this machine and on the target, or predicts them for the target.

Three kinds of target:

- This machine: every latency is measured.
- A device that can be reached: measured there where the prediction is uncertain or the candidate may enter the front.
- A device that cannot be reached: every latency is predicted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from hw_profiles._base import HardwareProfile
from nas.errors import MeasureError
from nas.evaluation.online_latency import OnlineLatencyModel, is_confident
from nas.latency.costs import Costs
from nas.latency.latency import Latency, corrected_for_load
from nas.latency.measured.quiet_host import QuietHost
from nas.latency.measured.timing import IDLE_WAIT_S, measure, measure_interleaved, measure_on_device
from nas.latency.measured.timing_loop import TimingPlan
from nas.latency.measured.worker import TimingWorker
from nas.latency.measured.worker_death import repeat_after_death
from nas.latency.predicted.predict import predict_latency
from nas.results.run_folder import RunFolder
from nas.runtimes.base import DeviceRuntime, Runtime

MAX_SEARCH_RUNS = 200
"""Timed runs of an untrained file, and of a finished file during the search, at most."""
MAX_FINAL_RUNS = 400
"""Timed runs of a file after the final training, at most."""
MIN_FINAL_RUNS = 200
"""Timed runs of a file after the final training, at least, however long they take."""
UNTRAINED_LIMIT_S = 1.0
"""Seconds for timing an untrained file and its FP32 baseline."""
SEARCH_LIMIT_S = 2.0
"""Seconds for timing a finished file during the search."""
PRECHECK_LIMIT_S = 0.25
"""Seconds for the check whether an untrained file is clearly above the latency limit."""
FINAL_PATIENCE_S = IDLE_WAIT_S
"""Seconds that a measurement after the final training waits for an idle machine."""
SEARCH_PATIENCE_S = 0.3
"""Seconds that a measurement during the search waits for an idle machine."""

PREDICTED_BEFORE_NOTE = (
    "measured on the finished file; what was decided before and during training rests on a prediction"
)
ONLINE_PREDICTION_NOTE = (
    "learned from what this search measured on the target; not measured there, as it is sure and off the front"
)
DISTURBED_NOTE = "measured while other workers of this machine went on"
UNTRAINED_NOTE = "measured on the untrained file, and not again, as it is off the front"


@dataclass(frozen=True, kw_only=True)
class LatencyEvaluator:
    """Measures files on this machine, and measures or predicts their latency on the target.

    Attributes:
        profile: hardware profile of the target.
        host_profile: hardware profile of this machine.
        host_runtime: runs files on this machine.
        device_runtime: times files on the target device; None where it cannot be reached, or is this machine.
        input_shape: (C, H, W) of the files' input.
        measures_energy: whether the device measures energy too.
        measures_placement: whether every candidate is measured on the device, as layers that fall back are limited.
        folder: of the run; logs of failures and samples of the device's latencies go there.
        log: receives one line of text about the progress.
        timing_worker: process that times files on this machine; None times them in this process.
        quiet_host: has the other workers of this machine hold still meanwhile; None where there are none.
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
    quiet_host: QuietHost | None = None
    measures_placement: bool = False

    def measure_untrained(
        self, paths: Sequence[Path], file_costs: Sequence[Costs], *, key: str = "", limit_ms: float | None = None
    ) -> list[Latency]:
        """Latencies of untrained files on the target, within seconds. All are measured, or all are predicted.

        On this machine, timing ends at a precision of 1 %, clearly above the limit, or after `UNTRAINED_LIMIT_S`. A
        device measures them where a prediction is uncertain, unless even its lower end exceeds the limit.

        Args:
            paths: the candidate's file and, where it has one, that of its FP32 baseline.
            file_costs: costs of each file.
            key: of the candidate.
            limit_ms: upper latency limit of the candidate, in ms.

        Raises:
            MeasureError: timing fails; the end of a device's log is written under the candidate's key.
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
        predicted = [self._predict(costs) for costs in file_costs]
        is_infeasible = limit_ms is not None and predicted[0].low_ms > limit_ms
        is_enough = all(map(is_confident, predicted)) and not self.measures_placement
        if self.device_runtime is None or is_infeasible or is_enough:
            return predicted
        return self._measure_on_device(paths, file_costs, key)

    def is_clearly_above(self, path: Path, file_costs: Costs, limit_ms: float) -> bool:
        """Whether a short measurement, or a prediction, puts an untrained file above a limit with its whole interval.

        Args:
            path: the file.
            file_costs: its costs.
            limit_ms: limit in ms.
        """
        if not self.is_on_host:
            return self._predict(file_costs).low_ms > limit_ms and self.device_runtime is not None
        plan = TimingPlan(
            runs=MAX_SEARCH_RUNS,
            min_runs=5,
            max_duration_s=PRECHECK_LIMIT_S,
            early_stop_above_ms=limit_ms,
            relative_precision=0.02,
        )
        latency = self.measure_on_host([path], plan)[0]
        return corrected_for_load(latency).low_ms > limit_ms

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

        After the final training, a device that can be reached measures every file. During the search it skips files
        whose candidate would not enter the front even at the lower end of a prediction: those keep the latency of the
        untrained file, if it was measured or its prediction is certain enough.

        Args:
            paths: the candidate's file and, where it is timed beside one, that of its FP32 baseline.
            file_costs: costs of each file.
            key: of the candidate.
            is_final: whether the final training is done, after which measurements are long.
            untrained_latency: of the untrained file on the target; None where it is not known.
            would_enter_front: whether the candidate would enter the front with such a latency.

        Returns:
            Latencies on the target and on this machine, each in the order of `paths`.

        Raises:
            MeasureError: timing fails; the end of a device's log is written under the candidate's key.
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
        measured = self._measure_on_device(paths, file_costs, key)
        was_predicted = untrained_latency is not None and untrained_latency.kind == "predicted"
        notes = (PREDICTED_BEFORE_NOTE,) if was_predicted else ()
        return [replace(latency, notes=(*latency.notes, *notes)) for latency in measured], hosts

    def measure_on_host(self, paths: Sequence[Path], plan: TimingPlan) -> list[Latency]:
        """Latencies on this machine; several files are timed by turns, so that they can be compared."""
        if self.quiet_host is None:
            return self._measure_on_host(paths, plan)
        with self.quiet_host.still() as is_still:
            latencies = self._measure_on_host(paths, plan)
        if is_still:
            return latencies
        return [replace(latency, notes=(*latency.notes, DISTURBED_NOTE)) for latency in latencies]

    def _measure_on_host(self, paths: Sequence[Path], plan: TimingPlan) -> list[Latency]:
        device, shapes = self.host_profile.title, [self.input_shape] * len(paths)
        if self.timing_worker is not None:
            measure_once = partial(self.timing_worker.measure, paths, runtime=self.host_runtime.name)
            return repeat_after_death(partial(measure_once, device=device, input_shape=shapes, plan=plan))
        if len(paths) == 1:
            return [measure(paths[0], self.host_runtime, device=device, input_shape=self.input_shape, plan=plan)]
        return measure_interleaved(paths, self.host_runtime, device=device, input_shape=shapes, plan=plan)

    def lower_bound(self, latency: Latency) -> Latency:
        """The latency to check against limits: the lower end of a prediction that the device may still correct."""
        is_provisional = self.device_runtime is not None and latency.kind == "predicted"
        least_ms = max(latency.low_ms, 1e-6 * latency.latency_ms)  # an interval may reach 0, which is no latency
        return replace(latency, latency_ms=least_ms) if is_provisional else latency

    @property
    def is_on_host(self) -> bool:
        """Whether the target is this machine."""
        return self.profile.local and self.device_runtime is None

    @property
    def online_model(self) -> OnlineLatencyModel:
        """Latency model fitted to the measurements of this run on the device."""
        return OnlineLatencyModel(folder=self.folder, profile=self.profile)

    def _predict(self, file_costs: Costs) -> Latency:
        """Prediction by the target's calibration or profile, or by the online model where its interval is narrower."""
        offline = predict_latency(file_costs, self.profile)
        online = self.online_model.predict(file_costs) if self.device_runtime is not None else None
        return online if online is not None and _relative_width(online) < _relative_width(offline) else offline

    def _measure_on_device(self, paths: Sequence[Path], file_costs: Sequence[Costs], key: str) -> list[Latency]:
        """Latencies that the device measures; each is added to the samples of the online model.

        Raises:
            MeasureError: timing fails; the end of the device's log is written under the candidate's key.
        """
        assert self.device_runtime is not None  # noqa: S101
        results = measure_on_device(
            paths, self.device_runtime, self.profile, with_energy=self.measures_energy, log=self.log
        )
        latencies = []
        for path, result, costs in zip(paths, results, file_costs, strict=True):
            if isinstance(result, MeasureError):
                if result.log_lines:
                    self.folder.write(f"models/{key or path.stem}-board.log", "\n".join(result.log_lines) + "\n")
                raise result
            self.online_model.add(path.stem, costs, result)
            latencies.append(result)
        return latencies


def _relative_width(predicted: Latency) -> float:
    return (predicted.high_ms - predicted.low_ms) / predicted.latency_ms
