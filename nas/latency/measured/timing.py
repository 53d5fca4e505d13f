"""A latency is a statement, not a number: value, interval, where and how.

One process, a warm-up, single runs timed by a monotonic clock in rounds beside a reference network (`nas.latency.measured.timing_loop`). The
quoted figure is the median of the rounds in which the reference was as fast as it is at its best on this machine; the
5th percentile is kept beside it. Where there were too few such rounds, the statement says how busy the machine was.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from hw_profiles._base import HardwareProfile
from nas.errors import MeasureError
from nas.intervals import TimesMs, bootstrap_median_interval
from nas.latency.estimate import MAX_REFERENCE_SLOWDOWN, Latency
from nas.latency.measured import host_load
from nas.latency.measured.reference_cache import load_best_ms, machine_id, store_best_ms
from nas.latency.measured.timing_loop import (
    NanosecondClock,
    TimingPlan,
    TimingResult,
    measure_best_reference_ms,
    run_timing_loop,
)
from nas.runtimes import reference_network as _reference
from nas.runtimes.base import DeviceTiming, Runtime

Shape = tuple[int, int, int]

IDLE_WAIT_S = 6.0
"""How long a measurement waits for a calm machine, where nothing else is asked for: bursts last for seconds."""
DRIFT_LIMIT = MAX_REFERENCE_SLOWDOWN


def measure(
    model: Path,
    runtime: Runtime,
    *,
    device: str,
    input_shape: Shape,
    runs: int = 300,
    threads: int = 1,
    plan: TimingPlan | None = None,
    reference_cache: Path | None = None,
    clock_ns: NanosecondClock = time.perf_counter_ns,
) -> Latency:
    """Time one file on one image of random pixels, in rounds with the reference network before and after each.

    Args:
        model: the ONNX file.
        runtime: what runs it.
        device: where, in words.
        input_shape: (C, H, W) of the file's input.
        runs: timed single runs, at least 200 for a figure that is quoted.
        threads: threads inside an operator.
        plan: when to end, in the place of `runs` and the usual patience.
        memory: file of the reference network's best times (`nas.latency.measured.reference_cache`); without one a machine that is steadily
            busy is not noticed.
        clock: nanoseconds, monotonic.

    Returns:
        A measurement whose interval is the median's by a bootstrap of the rounds and the runs in them
        (`nas.intervals`). It holds for the noise within these runs, not for the change between sessions.

    Raises:
        MeasureError: the runtime refuses the file or the image.
        ValueError: `runs` is below 2.
    """
    plan = plan or TimingPlan(runs=runs, idle_wait_s=IDLE_WAIT_S)
    (found,) = _time_interleaved([(model, input_shape)], runtime, device, threads, plan, reference_cache, clock_ns, ())
    return found


def measure_interleaved(
    models: Sequence[Path],
    runtime: Runtime,
    *,
    device: str,
    input_shape: Shape | Sequence[Shape],
    runs: int = 300,
    threads: int = 1,
    plan: TimingPlan | None = None,
    reference_cache: Path | None = None,
    clock_ns: NanosecondClock = time.perf_counter_ns,
) -> list[Latency]:
    """Time files side by side: in each round a block of runs of every file, and of the reference network around them.

    So whatever the machine does meets all files alike, which is what a comparison needs.

    Args:
        models: the ONNX files.
        runtime: what runs them.
        device: where, in words.
        input_shape: (C, H, W) of every file's input, or one for each file.
        runs: timed single runs of each file, at least.
        threads: threads inside an operator. All sessions are open at once, so with several their threads spin beside
            each other, and the notes say so.
        plan: when to end, in the place of `runs` and the usual patience.
        memory: file of the reference network's best times; see `measure`.
        clock: nanoseconds, monotonic.

    Returns:
        One measurement for each file, in order. The drift is the reference's change from the first half to the second.

    Raises:
        MeasureError: the runtime refuses a file or an image.
        ValueError: `runs` is below 2, or there are not as many shapes as files.
    """
    plan = plan or TimingPlan(runs=runs, idle_wait_s=IDLE_WAIT_S)
    shapes = _shape_per_model(input_shape, len(models))
    notes = (f"{len(models)} files interleaved", *(("several sessions spin side by side",) if threads > 1 else ()))
    return _time_interleaved(
        [*zip(models, shapes, strict=True)], runtime, device, threads, plan, reference_cache, clock_ns, notes
    )


def measure_on_device(
    models: Sequence[Path],
    runtime: Runtime,
    profile: HardwareProfile,
    *,
    with_layers: bool = False,
    with_energy: bool = False,
    log: Callable[[str], None] = lambda _: None,
) -> list[Latency | MeasureError]:
    """Measure files on a device that times them itself: a board over ssh, or a GPU by its own clock.

    Args:
        models: the ONNX files.
        runtime: one whose `times(profile)` is true.
        profile: of the device.
        layers: whether each layer is timed too.
        energy: whether energy is measured too, where the device can.
        say: told what is being done.

    Returns:
        For each file, in order, its measurement or why there is none.

    Raises:
        MeasureError: there is no way to the device, or nothing runs on it.
    """
    timings = runtime.time_models(models, profile, with_layers=with_layers, with_energy=with_energy, log=log)
    return [t if isinstance(t, MeasureError) else _to_latency(t, runtime) for t in timings]


def _time_interleaved(
    files: Sequence[tuple[Path, Shape]], runtime: Runtime, device: str, threads: int, plan: TimingPlan,
    reference_cache: Path | None, clock_ns: NanosecondClock, notes: tuple[str, ...],
) -> list[Latency]:  # fmt: skip
    """The statements of files that are timed side by side."""
    key = f"{machine_id()}, {runtime.name} {runtime.versions()}, {threads} threads, reference {_reference.REFERENCE_VERSION}"
    before = host_load.snapshot()
    best_ms = load_best_ms(reference_cache, key)
    entries = [(_reference.reference_path(), _reference.INPUT_SHAPE), *files]
    sessions = []
    try:
        for path, _ in entries:
            sessions.append(runtime.load(path, threads=threads))
        calls = [session.bound_run(_random_image(shape)) for session, (_, shape) in zip(sessions, entries, strict=True)]
        first_ms = float("inf")
        if reference_cache is not None and best_ms is None:
            best_ms = first_ms = measure_best_reference_ms(calls[0], clock_ns)
        found = run_timing_loop(calls[1:], calls[0], plan, clock_ns=clock_ns, best_reference_ms=best_ms or float("inf"))
    finally:
        for session in sessions:
            session.close()
    store_best_ms(reference_cache, key, min(first_ms, found.session_best_reference_ms))
    notes = (*notes, *_timing_notes(found, host_load.describe_since(before)))
    return [
        _summarize_times(
            times, runtime=runtime.name, device=device, threads=threads, drift=found.drift, notes=notes,
            slowdown=found.slowdown, versions={**runtime.versions(), "reference": str(_reference.REFERENCE_VERSION)},
            n_rounds=found.rounds_kept,
        )
        for times in found.times_ms
    ]  # fmt: skip


def _timing_notes(result: TimingResult, load: str) -> list[str]:
    """What a reader has to know of the rounds."""
    told = [result.stop_reason] if result.stop_reason else []
    if result.slowdown > MAX_REFERENCE_SLOWDOWN:
        against = f"{result.reference_ms:.4f} against {result.best_reference_ms:.4f} ms"
        slower = f"the reference network takes {result.slowdown:.0%} longer than at its best"
        told.append(f"busy machine: {slower} ({against}), {load}")
    elif result.rounds_kept < result.rounds_made:
        told.append(
            f"{result.rounds_made - result.rounds_kept} of {result.rounds_made} rounds left out: the reference network was slower beside them"
        )
    if abs(result.drift) > DRIFT_LIMIT:
        told.append(f"busy machine: the reference network drifted by {result.drift:+.1%}")
    return told


def _summarize_times(
    times_ms: TimesMs,
    *,
    runtime: str,
    device: str,
    threads: int,
    drift: float,
    notes: tuple[str, ...],
    versions: dict[str, str],
    slowdown: float | None = None,
    n_rounds: int | None = None,
) -> Latency:
    low, high = bootstrap_median_interval(times_ms, n_rounds)
    p5, median, p99 = (float(v) for v in np.percentile(times_ms, [5, 50, 99]))
    return Latency(
        kind="measured",
        device=device,
        runtime=runtime,
        latency_ms=median,
        low_ms=low,
        high_ms=high,
        p5_ms=p5,
        p99_ms=p99,
        runs=len(times_ms),
        threads=threads,
        drift=drift,
        notes=notes,
        versions=versions,
        slowdown=slowdown,
    )


def _to_latency(timing: DeviceTiming, runtime: Runtime) -> Latency:
    found = _summarize_times(
        timing.times_ms, runtime=runtime.name, device=timing.device, threads=1, drift=timing.drift, notes=timing.notes,
        versions={**timing.versions, "reference": str(_reference.REFERENCE_VERSION)},
    )  # fmt: skip
    layers = tuple((layer.name, layer.ms) for layer in timing.layers)
    return replace(found, energy_mj=timing.energy_mj, layers=layers)


def _random_image(shape: Shape) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (1, *shape), dtype=np.uint8)


def _shape_per_model(shape: Shape | Sequence[Shape], count: int) -> list[Shape]:
    if isinstance(shape[0], int):
        return [cast(Shape, tuple(shape))] * count
    shapes = list(cast(Sequence[Shape], shape))
    if len(shapes) != count:
        raise ValueError(
            f"there must be one input shape for all files or one for each of {count}, but got {len(shapes)}"
        )
    return shapes
