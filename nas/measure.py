"""A latency is a statement, not a number: value, interval, where and how. And the one timing loop that makes them.

One process, one session, warm-up, single runs timed by a monotonic clock, garbage collection off. The quoted figure is
the median; the 5th percentile is kept because it repeats on a shared machine (0.2 to 0.7 % between processes with the
other core busy, where the median moves 1 to 4 %). A reference network is timed before and after.
"""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from hw_profiles._base import HardwareProfile
from nas.errors import MeasureError
from nas.runtimes import _reference
from nas.runtimes._base import Runtime, Timing

MeasurementKind = Literal["measured", "predicted"]
Shape = tuple[int, int, int]
Clock = Callable[[], int]
Times = npt.NDArray[np.float64]

WARM_UP_RUNS = 40
REFERENCE_RUNS = 200
DRIFT_LIMIT = 0.03
ATTEMPTS = 3
BLOCKS = 10
OPTIONAL = frozenset({"energy_mj", "layers"})


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One latency with its provenance. All times are milliseconds for one inference of one image.

    Attributes:
        kind: `measured` on the device named, or `predicted` by a model of it.
        device: what it was measured on or predicted for, in words.
        runtime: word of the runtime.
        latency_ms: the median of the runs, or the prediction.
        low_ms: lower end of the 95 % interval of `latency_ms`.
        high_ms: upper end of it.
        p5_ms: 5th percentile of the runs, the figure that repeats on a shared machine; None when predicted.
        p99_ms: 99th percentile of the runs; None when predicted.
        runs: how many runs were timed; 0 when predicted.
        threads: threads the runtime was given.
        drift: relative change of the reference network around the measurement; None when predicted.
        notes: what a reader has to know ("busy machine: drift 5 %").
        versions: names and versions of what ran it and the state of the device, or of the model that predicted it.
        energy_mj: millijoules of one inference above idle; None where nothing measured them.
        layers: name and milliseconds of each layer that the device executed, in order; empty when not asked for.
    """

    kind: MeasurementKind
    device: str
    runtime: str
    latency_ms: float
    low_ms: float
    high_ms: float
    p5_ms: float | None = None
    p99_ms: float | None = None
    runs: int = 0
    threads: int = 1
    drift: float | None = None
    notes: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    energy_mj: float | None = None
    layers: tuple[tuple[str, float], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; what is optional and not there is left out."""
        fields = asdict(self)
        return {k: v for k, v in fields.items() if k not in OPTIONAL or v not in (None, ())}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Measurement":
        """The inverse of `to_dict`, also after a JSON round trip; fields of a later version are ignored."""
        known = {k: v for k, v in fields.items() if k in cls.__dataclass_fields__}
        layers = tuple((str(name), float(ms)) for name, ms in fields.get("layers", ()))
        return cls(**{**known, "notes": tuple(fields.get("notes", ())), "layers": layers})


def measure(
    model: Path,
    runtime: Runtime,
    *,
    device: str,
    input_shape: Shape,
    runs: int = 300,
    threads: int = 1,
    reference: Path | None = None,
    attempts: int = ATTEMPTS,
    clock: Clock = time.perf_counter_ns,
) -> Measurement:
    """Time one file on one image of random pixels, and the reference network before and after it.

    When the reference's median changed by more than 3 %, all is measured again, `attempts` times at most; then the
    attempt with the least drift is kept and says so in its notes. Sessions are opened one after the other, never two
    at once.

    Args:
        model: the ONNX file.
        runtime: what runs it.
        device: where, in words.
        input_shape: (C, H, W) of the file's input.
        runs: timed single runs, at least 200 for a figure that is quoted.
        threads: threads inside an operator.
        reference: another reference network, with a 1x48x48 input; None takes the built-in one.
        attempts: how often all is measured at most.
        clock: nanoseconds, monotonic.

    Returns:
        A measurement whose interval is the distribution-free one of the median (order statistics). It holds for the
        noise within these runs, not for the change between sessions.

    Raises:
        MeasureError: the runtime refuses the file or the image.
        ValueError: `runs` is below 2.
    """
    _check_runs(runs)
    reference = reference or _reference.reference_path()

    def timed(path: Path, shape: Shape, count: int) -> Times:
        session = runtime.load(path, threads=threads)
        try:
            return _timed(session.bound_run(_image(shape)), count, warm_up=WARM_UP_RUNS, clock=clock)
        finally:
            session.close()

    made: list[tuple[float, Times]] = []
    while not made or (len(made) < attempts and abs(made[-1][0]) > DRIFT_LIMIT):
        before = timed(reference, _reference.INPUT_SHAPE, REFERENCE_RUNS)
        times = timed(model, input_shape, runs)
        after = timed(reference, _reference.INPUT_SHAPE, REFERENCE_RUNS)
        made.append((float(np.median(after) / np.median(before) - 1), times))
    drift, times = min(made, key=lambda attempt: abs(attempt[0]))
    return _statement(times, runtime, device=device, threads=threads, drift=drift, attempts=len(made))


def measure_interleaved(
    models: Sequence[Path],
    runtime: Runtime,
    *,
    device: str,
    input_shape: Shape | Sequence[Shape],
    runs: int = 300,
    threads: int = 1,
    clock: Clock = time.perf_counter_ns,
) -> list[Measurement]:
    """Time files side by side: ten rounds, and in each a block of runs of every file and of the reference network.

    So whatever the machine does meets all files alike, which is what a comparison needs.

    Args:
        models: the ONNX files.
        runtime: what runs them.
        device: where, in words.
        input_shape: (C, H, W) of every file's input, or one for each file.
        runs: timed single runs of each file.
        threads: threads inside an operator. All sessions are open at once, so with several their threads spin beside
            each other, and the notes say so.
        clock: nanoseconds, monotonic.

    Returns:
        One measurement for each file, in order. The drift is the reference's change from the first half to the second.

    Raises:
        MeasureError: the runtime refuses a file or an image.
        ValueError: `runs` is below 2, or there are not as many shapes as files.
    """
    _check_runs(runs)
    shapes = _shapes(input_shape, len(models))
    entries = [*zip(models, shapes, strict=True), (_reference.reference_path(), _reference.INPUT_SHAPE)]
    sessions = [runtime.load(path, threads=threads) for path, _ in entries]
    try:
        calls = [session.bound_run(_image(shape)) for session, (_, shape) in zip(sessions, entries, strict=True)]
        for call in calls:
            _timed(call, 1, warm_up=WARM_UP_RUNS, clock=clock)
        block = -(-runs // BLOCKS)
        rounds = [[_timed(call, block, warm_up=2, clock=clock) for call in calls] for _ in range(BLOCKS)]
    finally:
        for session in sessions:
            session.close()
    *columns, yardstick = [np.concatenate(column) for column in zip(*rounds, strict=True)]
    half = len(yardstick) // 2
    drift = float(np.median(yardstick[half:]) / np.median(yardstick[:half]) - 1)
    notes = (f"{len(models)} files interleaved", *(("several sessions spin side by side",) if threads > 1 else ()))
    return [
        _statement(times, runtime, device=device, threads=threads, drift=drift, attempts=1, notes=notes)
        for times in columns
    ]


def measure_there(
    models: Sequence[Path],
    runtime: Runtime,
    profile: HardwareProfile,
    *,
    layers: bool = False,
    energy: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> list[Measurement | MeasureError]:
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
    timings = runtime.timings(models, profile, layers=layers, energy=energy, say=say)
    return [t if isinstance(t, MeasureError) else _reported(t, runtime) for t in timings]


def median_interval(times: Times) -> tuple[float, float]:
    """The 95 % interval of the median by order statistics, which assumes no distribution, only independent runs.

    Source: Conover, Practical Nonparametric Statistics, 3rd edition, section 3.2 (normal approximation of the ranks).
    """
    ordered, n = np.sort(times), len(times)
    reach = 1.96 * np.sqrt(n) / 2
    low, high = int(np.floor(n / 2 - reach)), int(np.ceil(n / 2 + reach))
    return float(ordered[max(low - 1, 0)]), float(ordered[min(high, n - 1)])


def _statement(
    times: Times,
    runtime: Runtime,
    *,
    device: str,
    threads: int,
    drift: float,
    attempts: int,
    notes: tuple[str, ...] = (),
) -> Measurement:
    low, high = median_interval(times)
    p5, median, p99 = (float(v) for v in np.percentile(times, [5, 50, 99]))
    if abs(drift) > DRIFT_LIMIT:
        tried = f" in the least disturbed of {attempts} attempts" if attempts > 1 else ""
        notes = (*notes, f"busy machine: the reference network drifted by {drift:+.1%}{tried}")
    return Measurement(
        kind="measured",
        device=device,
        runtime=runtime.name,
        latency_ms=median,
        low_ms=low,
        high_ms=high,
        p5_ms=p5,
        p99_ms=p99,
        runs=len(times),
        threads=threads,
        drift=drift,
        notes=notes,
        versions={**runtime.versions(), "reference": str(_reference.VERSION)},
    )


def _reported(timing: Timing, runtime: Runtime) -> Measurement:
    low, high = median_interval(timing.times_ms)
    p5, median, p99 = (float(v) for v in np.percentile(timing.times_ms, [5, 50, 99]))
    return Measurement(
        kind="measured",
        device=timing.device,
        runtime=runtime.name,
        latency_ms=median,
        low_ms=low,
        high_ms=high,
        p5_ms=p5,
        p99_ms=p99,
        runs=len(timing.times_ms),
        drift=timing.drift,
        notes=timing.notes,
        versions={**timing.versions, "reference": str(_reference.VERSION)},
        energy_mj=timing.energy_mj,
        layers=tuple((layer.name, layer.ms) for layer in timing.layers),
    )


def _timed(call: Callable[[], None], runs: int, *, warm_up: int, clock: Clock) -> Times:
    """Milliseconds of each of `runs` single calls [runs]."""
    for _ in range(warm_up):
        call()
    stamps = [0] * (2 * runs)
    with _collector_off():
        for i in range(runs):
            stamps[2 * i] = clock()
            call()
            stamps[2 * i + 1] = clock()
    pairs = np.array(stamps, dtype=np.int64).reshape(runs, 2)  # [runs, start and end]
    return (pairs[:, 1] - pairs[:, 0]) / 1e6


@contextmanager
def _collector_off() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _image(shape: Shape) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (1, *shape), dtype=np.uint8)


def _shapes(shape: Shape | Sequence[Shape], count: int) -> list[Shape]:
    if isinstance(shape[0], int):
        return [cast(Shape, tuple(shape))] * count
    shapes = list(cast(Sequence[Shape], shape))
    if len(shapes) != count:
        raise ValueError(
            f"there must be one input shape for all files or one for each of {count}, but got {len(shapes)}"
        )
    return shapes


def _check_runs(runs: int) -> None:
    if runs < 2:
        raise ValueError(f"runs must be at least 2, but got {runs}; a quoted figure needs 200 or more")
