"""Timer of files for a target: measured on this machine or on a device, or predicted for it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from hw_profiles._base import HardwareProfile
from nas.errors import MeasureError
from nas.latency.costs import compute_costs
from nas.latency.latency import Latency
from nas.latency.measured.timing import IDLE_WAIT_S, measure_on_device
from nas.latency.measured.timing_loop import TimingPlan
from nas.latency.measured.worker import TimingWorker
from nas.latency.predicted.predict import predict_latency
from nas.post_training.base import LogFunction
from nas.runtimes.base import DeviceRuntime
from nas.targets.catalog import device_runtime

DRAFT_RUNS = 1000
"""Runs of a file that decides about a bit-width, at most; it is timed until its interval is within 0.5 %."""
DRAFT_SECONDS = 0.8
"""Seconds for each such file, at most."""
MIN_DRAFT_SECONDS = 3.0
FINAL_RUNS, MIN_FINAL_RUNS = 400, 200
"""Runs of a file whose latency is reported."""


class FileTimer:
    """Times files side by side. Use it as a context manager: its process ends with the block.

    Args:
        profile: the target. This machine and devices that can be reached are measured, others are predicted.
        reference_cache: file of the reference network's best times, see `nas.latency.measured.reference_cache`.
        log: called with a line about each step on a device.
        idle_wait_s: seconds to wait for a calm machine before a latency is reported.
    """

    def __init__(
        self, profile: HardwareProfile, *, reference_cache: Path | None = None, log: LogFunction = lambda _: None,
        idle_wait_s: float = IDLE_WAIT_S,
    ) -> None:  # fmt: skip
        self.profile, self._log, self._idle_wait_s = profile, log, idle_wait_s
        self._device: DeviceRuntime | None = device_runtime(profile)
        self._worker = TimingWorker(reference_cache=reference_cache)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.close()

    def time_drafts(self, paths: Sequence[Path], shape: tuple[int, int, int]) -> list[Latency]:
        """Latencies of files within seconds, all measured or all predicted; arguments as in `time`."""
        plan = TimingPlan(
            runs=DRAFT_RUNS, relative_precision=0.005, min_runs=min(200, DRAFT_RUNS),
            max_duration_s=max(MIN_DRAFT_SECONDS, DRAFT_SECONDS * len(paths)),
            idle_wait_s=min(0.3, self._idle_wait_s),
        )  # fmt: skip
        return self._time(paths, shape, plan)

    def time(self, paths: Sequence[Path], shape: tuple[int, int, int]) -> list[Latency]:
        """Latencies of files that are reported, all measured or all predicted.

        Args:
            paths: the ONNX files.
            shape: of one image as the files take it.

        Raises:
            MeasureError: a runtime refuses a file, or the device gives no latency.
            ExportError: the costs of a file, from which its latency is predicted, cannot be told.
        """
        plan = TimingPlan(
            runs=FINAL_RUNS, min_runs=min(MIN_FINAL_RUNS, FINAL_RUNS), relative_precision=0.003,
            idle_wait_s=self._idle_wait_s,
        )  # fmt: skip
        return self._time(paths, shape, plan)

    def _time(self, paths: Sequence[Path], shape: tuple[int, int, int], plan: TimingPlan) -> list[Latency]:
        if self._device is not None and not self.profile.local:
            results = measure_on_device(paths, self._device, self.profile, log=self._log)
            if failed := next((result for result in results if isinstance(result, MeasureError)), None):
                raise failed
            return [result for result in results if isinstance(result, Latency)]
        if self.profile.local:
            return self._worker.measure(
                paths, runtime=self.profile.runtime, device=self.profile.title, input_shape=[shape] * len(paths),
                plan=plan,
            )  # fmt: skip
        return [predict_latency(compute_costs(path), self.profile) for path in paths]
