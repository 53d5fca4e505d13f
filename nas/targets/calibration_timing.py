"""Calibration timing: files are timed on this machine, by the processor time of a thread, or on a board.

On this machine each file waits until the machine is idle, and all are timed beside one reference network with the same
clock.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hw_profiles._base import HardwareProfile
from nas.errors import ConfigError, MeasureError
from nas.latency.latency import Latency
from nas.latency.measured.reference_cache import reference_cache_path
from nas.latency.measured.timing import measure as measure_here
from nas.latency.measured.timing import measure_on_device
from nas.latency.measured.timing_loop import TimingPlan
from nas.targets.calibration_sample import Shape
from nas.targets.catalog import HOST_RUNTIME, device_runtime, local_runtime

RUNS = 200
"""Timed runs of a file on this machine."""
IDLE_WAIT_S = 3.0
"""Seconds that a file waits for this machine to be idle, at most."""

MeasureFiles = Callable[[Sequence[Path]], Sequence[Latency | MeasureError]]


def make_measure_files(profile: HardwareProfile, input_shape: Shape, log: Callable[[str], None]) -> MeasureFiles:
    """A function that times files on the target: for each file its latency, or the error that prevented it.

    Args:
        profile: of the target.
        input_shape: (C, H, W) of the files' input.
        log: receives a board's progress.

    Raises:
        ConfigError: the target is neither this machine nor a device that can be reached.
        MeasureError: its runtime is not available here.
    """
    if board := device_runtime(profile):
        return lambda paths: measure_on_device(paths, board, profile, log=log)
    if not profile.local:
        raise ConfigError(
            f"{profile.name!r} must be this machine or a board that can be reached, but is predicted only; "
            "name yours: nas targets add NAME --like DEVICE --ssh user@host"
        )
    runtime = local_runtime(profile)
    assert runtime is not None  # noqa: S101 - the target is this machine, and no device times itself
    # A GPU works while the thread waits, which no processor time shows.
    clock = _cpu_clock_ns() if profile.runtime == HOST_RUNTIME else time.perf_counter_ns
    plan = TimingPlan(runs=RUNS, idle_wait_s=IDLE_WAIT_S)
    # A cache of its own, because its clock is not that of all other measurements.
    cache = reference_cache_path().with_name("reference-processor-time.json")

    def measure_one(path: Path) -> Latency | MeasureError:
        try:
            return measure_here(
                path,
                runtime,
                device=profile.title,
                input_shape=input_shape,
                plan=plan,
                clock_ns=clock,
                reference_cache=cache,
            )
        except MeasureError as error:
            return error

    return lambda paths: [measure_one(path) for path in paths]


def _cpu_clock_ns() -> Callable[[], int]:
    """Processor time of this thread if its resolution is 1 us or finer, otherwise elapsed time.

    On an idle machine both agree. On a busy one a network that runs for longer than the scheduler's time slice loses
    the processor in every run, while a small network, the reference included, is not interrupted: elapsed time would
    be biased by size.
    """
    return time.thread_time_ns if time.get_clock_info("thread_time").resolution <= 1e-6 else time.perf_counter_ns
