"""Measurement of files on this machine or a device, as `Latency` statements.

One process, a warm-up, single runs timed by a monotonic clock in rounds between blocks of the reference network
(`nas.latency.measured.timing_loop`). The quoted figure is the median over the rounds in which the reference was as fast
as it is at its best on this machine; the 5th percentile is kept beside it. Where such rounds are too few, the notes say
how busy the machine was.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from hw_profiles._base import HardwareProfile
from nas.errors import MeasureError
from nas.intervals import TimesMs, bootstrap_median_interval
from nas.latency.latency import MAX_REFERENCE_SLOWDOWN, Latency
from nas.latency.measured import host_load
from nas.latency.measured.process_memory import resident_bytes
from nas.latency.measured.reference_cache import load_best_ms, machine_id, store_best_ms
from nas.latency.measured.timing_loop import (
    NanosecondClock,
    TimingPlan,
    TimingResult,
    measure_best_reference_ms,
    run_timing_loop,
)
from nas.runtimes import reference_network as _reference
from nas.runtimes.base import DeviceRuntime, DeviceTiming, Runtime, Session
from nas.runtimes.disturbance import DRIFT_LIMIT, drift_note

Shape = tuple[int, int, int]

IDLE_WAIT_S = 6.0
"""Default wait for a calm machine, in seconds: longer than the bursts of a shared machine, which last for seconds."""


def measure(
    model: Path,
    runtime: Runtime,
    *,
    device: str,
    input_shape: Shape,
    runs: int = 300,
    threads: int = 1,
    batch: int = 1,
    plan: TimingPlan | None = None,
    reference_cache: Path | None = None,
    clock_ns: NanosecondClock = time.perf_counter_ns,
) -> Latency:
    """Time one file on an image of random pixels or a batch of them, in rounds between blocks of the reference network.

    Args:
        model: the ONNX file.
        runtime: runs it.
        device: what is measured on, in words.
        input_shape: (C, H, W) of the file's input.
        runs: timed single runs; 200 or more for a figure that is quoted.
        threads: threads inside an operator.
        batch: images of one run.
        plan: when to stop; replaces `runs` and the default idle wait.
        reference_cache: file of the reference network's best times (`nas.latency.measured.reference_cache`). Without
            one a machine that is busy throughout goes unnoticed.
        clock_ns: monotonic clock, nanoseconds.

    Returns:
        The measured latency. Its interval is that of the median by a bootstrap of rounds and runs
        (`nas.intervals`): it covers the noise within these runs, not the change between sessions.

    Raises:
        MeasureError: the runtime refuses the file or the image.
        ValueError: `runs` is below 2.
    """
    plan = plan or TimingPlan(runs=runs, idle_wait_s=IDLE_WAIT_S)
    (latency,) = _time_interleaved(
        [_TimedFile(path=model, shape=(batch, *input_shape))],
        runtime,
        device,
        threads,
        plan,
        reference_cache,
        clock_ns,
        (),
    )
    return latency


def measure_interleaved(
    models: Sequence[Path],
    runtime: Runtime,
    *,
    device: str,
    input_shape: Shape | Sequence[Shape],
    runs: int = 300,
    threads: int = 1,
    batches: Sequence[int] = (),
    plan: TimingPlan | None = None,
    reference_cache: Path | None = None,
    clock_ns: NanosecondClock = time.perf_counter_ns,
) -> list[Latency]:
    """Time files side by side: each round has a block of runs of every file, between blocks of the reference network.

    Whatever the machine does affects all files alike, as a comparison requires.

    Args:
        models: the ONNX files.
        runtime: runs them.
        device: what is measured on, in words.
        input_shape: (C, H, W) of every file's input, or one for each file.
        runs: timed single runs of each file, at least.
        threads: threads inside an operator. All sessions are open at once: with more than one thread, those of
            different sessions spin at the same time, and the notes say so.
        batches: images of one run of each file; one image where it is empty.
        plan: when to stop; replaces `runs` and the default idle wait.
        reference_cache: file of the reference network's best times; see `measure`.
        clock_ns: monotonic clock, nanoseconds.

    Returns:
        One measured latency for each file, in order. The drift is that of the reference network from the first half of
        the rounds to the second.

    Raises:
        MeasureError: the runtime refuses a file or an image.
        ValueError: `runs` is below 2, or there are not as many shapes or batches as files.
    """
    plan = plan or TimingPlan(runs=runs, idle_wait_s=IDLE_WAIT_S)
    shapes = _shape_per_model(input_shape, len(models))
    notes = (f"{len(models)} files interleaved", *(("several sessions spin side by side",) if threads > 1 else ()))
    files = [
        _TimedFile(path=path, shape=(batch, *shape))
        for path, shape, batch in zip(models, shapes, batches or [1] * len(models), strict=True)
    ]
    return _time_interleaved(files, runtime, device, threads, plan, reference_cache, clock_ns, notes)


def measure_on_device(
    models: Sequence[Path],
    runtime: DeviceRuntime,
    profile: HardwareProfile,
    *,
    with_layers: bool = False,
    with_energy: bool = False,
    batch: int = 1,
    log: Callable[[str], None] = lambda _: None,
) -> list[Latency | MeasureError]:
    """Measure files on a device that times them itself: a board over ssh, or a GPU by its own clock.

    Args:
        models: the ONNX files.
        runtime: one whose `can_time_on_device(profile)` is true.
        profile: the device.
        with_layers: whether each layer is timed too.
        with_energy: whether energy is measured too, where the device can.
        batch: images of one run.
        log: receives progress lines.

    Returns:
        For each file, in order, its measured latency or the reason why there is none.

    Raises:
        MeasureError: the device cannot be reached, or nothing runs on it.
    """
    timings = runtime.time_models(
        models, profile, with_layers=with_layers, with_energy=with_energy, batch=batch, log=log
    )
    return [t if isinstance(t, MeasureError) else replace(_to_latency(t, runtime), batch=batch) for t in timings]


@dataclass(frozen=True, kw_only=True)
class _TimedFile:
    """One file, and the shape [N, C, H, W] of the images of one run."""

    path: Path
    shape: tuple[int, int, int, int]


def _time_interleaved(
    files: Sequence[_TimedFile], runtime: Runtime, device: str, threads: int, plan: TimingPlan,
    reference_cache: Path | None, clock_ns: NanosecondClock, notes: tuple[str, ...],
) -> list[Latency]:  # fmt: skip
    """Latencies of files that are timed side by side."""
    # All that changes how fast the reference network can be on this machine; stored, so it must not be reworded.
    key = (
        f"{machine_id()}, {runtime.name} {runtime.versions()}, {threads} threads, "
        f"reference {_reference.REFERENCE_VERSION}"
    )
    before = host_load.snapshot()
    best_ms = load_best_ms(reference_cache, key)
    entries = [_TimedFile(path=_reference.reference_path(), shape=(1, *_reference.INPUT_SHAPE)), *files]
    sessions: list[Session] = []
    calls: list[Callable[[], None]] = []
    sizes: list[int | None] = []  # resident bytes of this process before and after each file
    try:
        for entry in entries:
            sessions.append(runtime.load(entry.path, threads=threads))
            calls.append(sessions[-1].bound_run(_random_images(entry.shape)))
            sizes.append(resident_bytes())
        first_ms = float("inf")
        if reference_cache is not None and best_ms is None:
            best_ms = first_ms = measure_best_reference_ms(calls[0], clock_ns)
        result = run_timing_loop(
            calls[1:], calls[0], plan, clock_ns=clock_ns, best_reference_ms=best_ms or float("inf")
        )
    finally:
        for session in sessions:
            session.close()
    # This session's best only, not one read from the cache: that would renew an old best that was never reached again.
    store_best_ms(reference_cache, key, min(first_ms, result.session_best_reference_ms))
    notes = (*notes, *_timing_notes(result, host_load.describe_since(before)))
    return [
        _summarize_times(
            times, runtime=runtime.name, device=device, threads=threads, drift=result.drift, notes=notes,
            slowdown=result.slowdown, versions={**runtime.versions(), "reference": str(_reference.REFERENCE_VERSION)},
            n_rounds=result.rounds_kept, batch=file.shape[0], resident=_with_growth(sizes, at),
        )
        for at, (times, file) in enumerate(zip(result.times_ms, files, strict=True), start=1)
    ]  # fmt: skip


def _timing_notes(result: TimingResult, load: str) -> list[str]:
    """Caveats of a result: an early stop, a busy machine, rounds left out. The words are stored in records."""
    notes = [result.stop_reason] if result.stop_reason else []
    if result.slowdown > MAX_REFERENCE_SLOWDOWN:
        against = f"{result.reference_ms:.4f} against {result.best_reference_ms:.4f} ms"
        slower = f"the reference network takes {result.slowdown:.0%} longer than at its best"
        notes.append(f"busy machine: {slower} ({against}), {load}")
    elif result.rounds_kept < result.rounds_made:
        left_out = f"{result.rounds_made - result.rounds_kept} of {result.rounds_made} rounds left out"
        notes.append(f"{left_out}: the reference network was slower beside them")
    if abs(result.drift) > DRIFT_LIMIT:
        notes.append(drift_note(result.drift))
    return notes


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
    batch: int = 1,
    resident: int | None = None,
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
        batch=batch,
        resident_bytes=resident,
    )


def _with_growth(sizes: Sequence[int | None], at: int) -> int | None:
    """Resident bytes of the process with the reference network, and what loading and running file `at` added."""
    base, before, after = sizes[0], sizes[at - 1], sizes[at]
    return None if base is None or before is None or after is None else base + max(0, after - before)


def _to_latency(timing: DeviceTiming, runtime: DeviceRuntime) -> Latency:
    latency = _summarize_times(
        timing.times_ms, runtime=runtime.name, device=timing.device, threads=1, drift=timing.drift, notes=timing.notes,
        versions={**timing.versions, "reference": str(_reference.REFERENCE_VERSION)},
    )  # fmt: skip
    layers = tuple((layer.name, layer.ms) for layer in timing.layers)
    return replace(latency, energy_mj=timing.energy_mj, layers=layers, dla_fallback=timing.dla_fallback)


def _random_images(shape: tuple[int, int, int, int]) -> npt.NDArray[np.uint8]:
    """[N, C, H, W], the same pixels for every call."""
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def _shape_per_model(shape: Shape | Sequence[Shape], count: int) -> list[Shape]:
    """One shape for each file; a single shape serves all.

    Raises:
        ValueError: there are neither one nor `count` shapes.
    """
    if isinstance(shape[0], int):
        return [cast(Shape, tuple(shape))] * count
    shapes = list(cast(Sequence[Shape], shape))
    if len(shapes) != count:
        raise ValueError(
            f"there must be one input shape for all files or one for each of {count}, but got {len(shapes)}"
        )
    return shapes
