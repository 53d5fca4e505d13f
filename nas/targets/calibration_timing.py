"""How a calibration times files on its target: here, by the processor time of a thread, or on a board.

Here a net waits for the machine to be calm, and all nets are held against one reference by the same clock.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hw_profiles._base import HardwareProfile
from nas import registry
from nas.errors import ConfigError, MeasureError
from nas.latency.estimate import Latency
from nas.latency.measured.reference_cache import reference_cache_path
from nas.latency.measured.timing import measure as measure_here
from nas.latency.measured.timing import measure_on_device
from nas.latency.measured.timing_loop import TimingPlan
from nas.targets.calibration_sample import Shape
from nas.targets.catalog import device_runtime

RUNS = 200
"""Timed runs of a net on this machine."""
IDLE_WAIT_S = 3.0
"""How long a net waits for this machine to be calm."""

MeasureFiles = Callable[[Sequence[Path]], Sequence[Latency | MeasureError]]


def make_measure_files(profile: HardwareProfile, input_shape: Shape, log: Callable[[str], None]) -> MeasureFiles:
    """How files are timed on the target: each is answered by its measurement, or by why there is none.

    Args:
        profile: of the target.
        input_shape: (C, H, W) of the files' input.
        log: told what a board is doing.

    Raises:
        ConfigError: the target is neither this machine nor a device that can be reached.
    """
    if board := device_runtime(profile):
        return lambda paths: measure_on_device(paths, board, profile, log=log)
    if not profile.local:
        raise ConfigError(
            f"{profile.name!r} must be this machine or a board that can be reached, but is predicted only; "
            "name yours: nas targets add NAME --like DEVICE --ssh user@host"
        )
    runtime = registry.load("runtime", profile.runtime)
    clock, plan = _cpu_clock_ns(), TimingPlan(runs=RUNS, idle_wait_s=IDLE_WAIT_S)
    memory = reference_cache_path().with_name(
        "reference-processor-time.json"
    )  # by another clock than all other measurements

    def here(path: Path) -> Latency | MeasureError:
        try:
            return measure_here(
                path,
                runtime,
                device=profile.title,
                input_shape=input_shape,
                plan=plan,
                clock_ns=clock,
                reference_cache=memory,
            )
        except MeasureError as error:
            return error

    return lambda paths: [here(path) for path in paths]


def _cpu_clock_ns() -> Callable[[], int]:
    """Processor time of this thread where it is fine enough: on an idle machine it is the time that passes.

    On a busy machine a net whose run is longer than the scheduler's slice loses the processor in every run, while a
    small net, and the reference too, run undisturbed.
    """
    return time.thread_time_ns if time.get_clock_info("thread_time").resolution <= 1e-6 else time.perf_counter_ns
