"""The timing loop: rounds in which every file has a block of runs, between two blocks of the reference network.

On a shared machine a processor core has states that last for seconds, in one of which everything takes a quarter
longer: a neighbour on the other thread of the core, another clock. A median over one such state repeats badly, however
narrow its interval. So each round is judged by the reference network around it: rounds beside which it is more than 3 %
slower than at its best are timed again, as long as there is patience. What is left out is decided by the reference
alone, never by the times of the files.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from nas.intervals import TimesMs, bootstrap_median_interval, rank_median_interval
from nas.latency.estimate import MAX_REFERENCE_SLOWDOWN
from nas.latency.measured.gc_control import gc_paused

NanosecondClock = Callable[[], int]
Call = Callable[[], None]

WARM_UP_RUNS = 40
WARM_UP_S = 0.15
MIN_WARM_UP_RUNS = 3
BLOCK_MS = 10.0
"""About how long a block of a file is: short beside the states of a machine, long beside a change of file."""
MIN_ROUNDS = 10
"""Blocks at least, where nothing ends the measurement before."""
REFERENCE_RUNS = 20
MIN_RUNS_AT_LIMIT = 3
"""Runs of each file that are made even where the time is up."""
INITIAL_REFERENCE_S = 1.0


@dataclass(frozen=True, kw_only=True)
class TimingPlan:
    """How long is measured. All seconds are of the measurement's clock, warm-up included.

    Attributes:
        runs: calm runs of each file after which a measurement is complete.
        patience_s: how long calm is waited for once there were enough runs, disturbed ones included.
        limit_s: after which the measurement ends, once there are three runs of each file; None without.
        precise: share of the median; where every file's 95 % interval reaches no farther than that to either side, a
            measurement may end before `runs`. 0 never ends it.
        ceiling_ms: where the whole interval of the first file is above, a measurement may end before `runs`; beside a
            reference network that is slower than at its best, the interval counts for as much less.
        least: runs of each file before which nothing but `limit_s` ends it.
    """

    runs: int = 300
    idle_wait_s: float = 0.0
    max_duration_s: float | None = None
    relative_precision: float = 0.0
    early_stop_above_ms: float | None = None
    min_runs: int = 20

    def __post_init__(self) -> None:
        if self.runs < 2:
            raise ValueError(f"runs must be at least 2, but got {self.runs}; a quoted figure needs 200 or more")


@dataclass(frozen=True, kw_only=True)
class TimingResult:
    """What was timed, as far as it counts.

    Attributes:
        times_ms: of each file, milliseconds of each run that counts [runs].
        yardstick_ms: median of the reference network around the rounds that count.
        best_ms: of the reference network at its best, here or before.
        here_ms: at its best in these rounds, counted or not.
        drift: relative change of the reference network from the first half of the rounds that count to the second.
        kept: rounds that count.
        made: rounds in all.
        ended: why there are fewer runs than planned; empty otherwise.
    """

    times_ms: tuple[TimesMs, ...]
    reference_ms: float
    best_reference_ms: float
    session_best_reference_ms: float
    drift: float
    rounds_kept: int
    rounds_made: int
    stop_reason: str = ""

    @property
    def slowdown(self) -> float:
        """How much slower the reference network was than at its best, as a share."""
        return self.reference_ms / self.best_reference_ms - 1


@dataclass(frozen=True)
class _Round:
    """Blocks of all files, and the slower of the reference network's medians before and after."""

    blocks: tuple[TimesMs, ...]
    reference_ms: float


def run_timing_loop(
    calls: Sequence[Call],
    reference: Call,
    plan: TimingPlan,
    *,
    clock_ns: NanosecondClock,
    best_reference_ms: float = float("inf"),
) -> TimingResult:
    """Time calls side by side until the plan is fulfilled.

    Args:
        calls: run each file once.
        reference: runs the reference network once.
        plan: how long.
        clock_ns: nanoseconds, monotonic.
        best_reference_ms: median of the reference network at its best, as far as is known.
    """
    begin = clock_ns()
    counts = [_block_size(_warm_up(call, clock_ns), plan) for call in calls]
    _warm_up(reference, clock_ns)
    rounds: list[_Round] = []
    before, enough_at_s = _reference_ms(reference, clock_ns), 0.0
    known_ms, here_ms = best_reference_ms, before
    while True:
        blocks = tuple(
            _time_runs(call, n, warm_up=min(2, n // 5), clock_ns=clock_ns)
            for call, n in zip(calls, counts, strict=True)
        )
        after = _reference_ms(reference, clock_ns)
        rounds.append(_Round(blocks, max(before, after)))
        here_ms, before = min(here_ms, after), after
        best_reference_ms = min(known_ms, here_ms)
        spent_s = (clock_ns() - begin) / 1e9
        if min(counts) * len(rounds) < plan.runs:
            enough_at_s = spent_s
        kept = _undisturbed(rounds, best_reference_ms)
        complete = bool(kept) and min(counts) * len(kept) >= plan.runs
        judged = kept if kept or spent_s < plan.idle_wait_s else rounds
        ended = "" if complete else _early_stop_reason(judged, plan, best_reference_ms)
        is_due = plan.max_duration_s is not None and spent_s >= plan.max_duration_s
        if is_due and not complete and min(counts) * len(rounds) >= MIN_RUNS_AT_LIMIT:
            ended = f"ended after {plan.max_duration_s:g} s"
        if complete or ended or (spent_s > enough_at_s and spent_s - enough_at_s >= plan.idle_wait_s):
            return _to_result(
                rounds,
                kept,
                min(counts),
                plan,
                best_reference_ms=best_reference_ms,
                session_best_reference_ms=here_ms,
                stop_reason=ended,
            )


def measure_best_reference_ms(
    reference: Call, clock_ns: NanosecondClock, *, duration_s: float = INITIAL_REFERENCE_S
) -> float:
    """Least median of the reference network in so many seconds: a first idea of its best."""
    begin = clock_ns()
    _warm_up(reference, clock_ns)
    best_ms = _reference_ms(reference, clock_ns)
    while clock_ns() - begin < duration_s * 1e9:
        best_ms = min(best_ms, _reference_ms(reference, clock_ns))
    return best_ms


def _undisturbed(rounds: Sequence[_Round], best_reference_ms: float) -> list[_Round]:
    return [each for each in rounds if each.reference_ms <= best_reference_ms * (1 + MAX_REFERENCE_SLOWDOWN)]


def _early_stop_reason(judged: Sequence[_Round], plan: TimingPlan, best_reference_ms: float) -> str:
    """What the runs tell already, so that the measurement may end; empty where it must go on."""
    if not judged or not (plan.relative_precision or plan.early_stop_above_ms):
        return ""
    files = _concatenate_blocks(judged)
    if min(map(len, files)) < plan.min_runs:
        return ""
    slower = float(np.median([each.reference_ms for each in judged])) / best_reference_ms
    for interval in (
        rank_median_interval,
        partial(bootstrap_median_interval, n_rounds=len(judged)),
    ):  # the second costs a little
        intervals = [interval(times) for times in files]
        sure = ""
        if (
            plan.early_stop_above_ms is not None
            and intervals[0][0] / (slower if slower > 1 + MAX_REFERENCE_SLOWDOWN else 1.0) > plan.early_stop_above_ms
        ):
            sure = f"ended when it was surely above {plan.early_stop_above_ms:g} ms"
        elif plan.relative_precision > 0 and _relative_half_width(files, intervals) <= plan.relative_precision:
            sure = f"ended when the interval was within {100 * plan.relative_precision:g}%"
        if not sure:
            return ""
    return sure


def _relative_half_width(files: Sequence[TimesMs], intervals: Sequence[tuple[float, float]]) -> float:
    """How far the widest interval reaches from its median, as a share of it."""
    medians = map(float, map(np.median, files))
    return max(max(high / m - 1, 1 - low / m) for (low, high), m in zip(intervals, medians, strict=True))


def _to_result(
    rounds: Sequence[_Round], kept: Sequence[_Round], count: int, plan: TimingPlan, *,
    best_reference_ms: float, session_best_reference_ms: float, stop_reason: str,
) -> TimingResult:  # fmt: skip
    """The rounds that count, in the order of time: the calm ones, or where they are too few the calmest."""
    enough = min(plan.runs, plan.min_runs) if stop_reason else plan.runs
    if len(kept) * count < enough:
        needed = min(len(rounds), -(-plan.runs // count))
        limit = sorted(each.reference_ms for each in rounds)[needed - 1]
        kept = [each for each in rounds if each.reference_ms <= limit]
    yards = np.array([each.reference_ms for each in kept])
    half = len(yards) // 2
    drift = float(np.median(yards[half:]) / np.median(yards[:half]) - 1) if half else 0.0
    return TimingResult(
        times_ms=_concatenate_blocks(kept),
        reference_ms=float(np.median(yards)),
        best_reference_ms=best_reference_ms,
        session_best_reference_ms=session_best_reference_ms,
        drift=drift,
        rounds_kept=len(kept),
        rounds_made=len(rounds),
        stop_reason=stop_reason,
    )


def _concatenate_blocks(rounds: Sequence[_Round]) -> tuple[TimesMs, ...]:
    return tuple(np.concatenate(blocks) for blocks in zip(*(each.blocks for each in rounds), strict=True))


def _block_size(run_ms: float, plan: TimingPlan) -> int:
    """Runs of a file in one round."""
    return max(1, min(int(BLOCK_MS / max(run_ms, 1e-6)), -(-plan.runs // MIN_ROUNDS)))


def _reference_ms(reference: Call, clock_ns: NanosecondClock) -> float:
    return float(np.median(_time_runs(reference, REFERENCE_RUNS, warm_up=2, clock_ns=clock_ns)))


def _warm_up(call: Call, clock_ns: NanosecondClock) -> float:
    """Run until warm; milliseconds of the last run."""
    begin = stamp = clock_ns()
    for done in range(1, WARM_UP_RUNS + 1):
        start = clock_ns()
        call()
        stamp = clock_ns()
        if done >= MIN_WARM_UP_RUNS and stamp - begin >= WARM_UP_S * 1e9:
            break
    return (stamp - start) / 1e6


def _time_runs(call: Call, runs: int, *, warm_up: int, clock_ns: NanosecondClock) -> TimesMs:
    """Milliseconds of each of `runs` single calls [runs]."""
    for _ in range(warm_up):
        call()
    stamps = [0] * (2 * runs)
    with gc_paused():
        for i in range(runs):
            stamps[2 * i] = clock_ns()
            call()
            stamps[2 * i + 1] = clock_ns()
    pairs = np.array(stamps, dtype=np.int64).reshape(runs, 2)  # [runs, start and end]
    return (pairs[:, 1] - pairs[:, 0]) / 1e6
