"""Timing loop: rounds in which every file has a block of runs, between two blocks of the reference network.

A core of a shared machine has states that last for seconds, and in one of them everything takes a quarter longer: a
neighbour on the other hardware thread, another clock. The median over a single state repeats badly, however narrow its
interval. So the reference network around each round decides whether the round counts: a round is timed again while the
reference is more than 3 % slower than at its best and the idle wait is not over. Only the reference decides, never
the times of the files: dropping slow runs of a file would bias its median.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from nas.intervals import TimesMs, bootstrap_median_interval, rank_median_interval
from nas.latency.latency import MAX_REFERENCE_SLOWDOWN
from nas.latency.measured.gc_control import gc_paused

NanosecondClock = Callable[[], int]
Call = Callable[[], None]

WARM_UP_RUNS = 40
"""Runs of a fast file before it is timed: caches, branch predictors and the clock are then settled."""
WARM_UP_S = 0.15
"""Seconds after which a slow file counts as warm with fewer runs than that."""
MIN_WARM_UP_RUNS = 3
"""Warm-up runs of any file: the first allocates, the second may still select kernels."""
BLOCK_MS = 10.0
"""Target length of a block: short against the seconds of a machine state, long against the switch between files."""
MIN_ROUNDS = 10
"""Smallest number of rounds of a complete measurement: halves of 5 give a drift, and the bootstrap needs rounds."""
REFERENCE_RUNS = 20
"""Runs of the reference network between two rounds: about 1 ms, a tenth of the block of one file."""
MIN_RUNS_AT_LIMIT = 3
"""Runs of each file that are made even after the time limit, so that there is a median at all."""
INITIAL_REFERENCE_S = 1.0
"""Seconds in which a machine without a history looks for its best."""


@dataclass(frozen=True, kw_only=True)
class TimingPlan:
    """When a measurement stops. Seconds are of the measurement's clock and include the warm-up.

    Attributes:
        runs: undisturbed runs of each file that complete a measurement.
        idle_wait_s: seconds to wait for a calm machine after `runs` runs, disturbed ones included.
        max_duration_s: seconds after which the measurement stops, once each file has three runs; None for no limit.
        relative_precision: the measurement may stop before `runs` where the 95 % interval of every file reaches at
            most this share of its median to either side. 0 disables this.
        early_stop_above_ms: the measurement may stop before `runs` where the whole interval of the first file is
            above. The interval is divided by the slowdown of the reference network where that exceeds 3 %.
        min_runs: runs of each file before which only `max_duration_s` stops the measurement.

    Raises:
        ValueError: `runs` is below 2.
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
    """Times of the rounds that count, and the state of the machine during them.

    Attributes:
        times_ms: for each file, milliseconds of each run that counts, in the order of time [runs].
        reference_ms: median of the reference network around the rounds that count.
        best_reference_ms: median of the reference network at its best, in this session or an earlier one.
        session_best_reference_ms: its best in this session, in any round.
        drift: relative change of the reference network from the first half of the rounds that count to the second.
        rounds_kept: rounds that count.
        rounds_made: rounds in all.
        stop_reason: why there are fewer runs than planned; empty otherwise.
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
        """How much slower than at its best the reference network was, as a share."""
        return self.reference_ms / self.best_reference_ms - 1


@dataclass(frozen=True)
class _Round:
    """A block of each file [runs], and the slower of the reference network's medians before and after them."""

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
        calls: one for each file, which runs it once.
        reference: runs the reference network once.
        plan: when to stop.
        clock_ns: monotonic clock, nanoseconds.
        best_reference_ms: median of the reference network at its best in earlier sessions; infinity where unknown.

    Returns:
        The undisturbed rounds; where they are too few, the least disturbed ones.
    """
    begin = clock_ns()
    counts = [_block_size(_warm_up(call, clock_ns), plan) for call in calls]
    _warm_up(reference, clock_ns)
    rounds: list[_Round] = []
    before, enough_at_s = _reference_ms(reference, clock_ns), 0.0
    known_ms, session_best_ms = best_reference_ms, before
    while True:
        # Two runs of each block only re-warm the caches after the switch of files; a fifth of a short block at most.
        blocks = tuple(
            _time_runs(call, n, warm_up=min(2, n // 5), clock_ns=clock_ns)
            for call, n in zip(calls, counts, strict=True)
        )
        after = _reference_ms(reference, clock_ns)
        # The slower neighbour counts: a state that began or ended within the round is in one of the two.
        rounds.append(_Round(blocks, max(before, after)))
        session_best_ms, before = min(session_best_ms, after), after
        best_reference_ms = min(known_ms, session_best_ms)
        spent_s = (clock_ns() - begin) / 1e9
        if min(counts) * len(rounds) < plan.runs:
            enough_at_s = spent_s  # the idle wait starts when a calm machine would have been done
        # All rounds anew, as the best may have fallen in this one and earlier rounds then no longer count.
        kept = _undisturbed(rounds, best_reference_ms)
        complete = bool(kept) and min(counts) * len(kept) >= plan.runs
        # On a machine that is never calm, early stopping goes by the disturbed rounds once the idle wait is over.
        usable = kept if kept or spent_s < plan.idle_wait_s else rounds
        stop_reason = "" if complete else _early_stop_reason(usable, plan, best_reference_ms)
        is_due = plan.max_duration_s is not None and spent_s >= plan.max_duration_s
        if is_due and not complete and min(counts) * len(rounds) >= MIN_RUNS_AT_LIMIT:
            stop_reason = f"ended after {plan.max_duration_s:g} s"
        if complete or stop_reason or (spent_s > enough_at_s and spent_s - enough_at_s >= plan.idle_wait_s):
            return _to_result(
                rounds,
                kept,
                min(counts),
                plan,
                best_reference_ms=best_reference_ms,
                session_best_reference_ms=session_best_ms,
                stop_reason=stop_reason,
            )


def measure_best_reference_ms(
    reference: Call, clock_ns: NanosecondClock, *, duration_s: float = INITIAL_REFERENCE_S
) -> float:
    """Smallest median of the reference network in ms within `duration_s` seconds: a first guess of its best."""
    begin = clock_ns()
    _warm_up(reference, clock_ns)
    best_ms = _reference_ms(reference, clock_ns)
    while clock_ns() - begin < duration_s * 1e9:
        best_ms = min(best_ms, _reference_ms(reference, clock_ns))
    return best_ms


def _undisturbed(rounds: Sequence[_Round], best_reference_ms: float) -> list[_Round]:
    limit_ms = best_reference_ms * (1 + MAX_REFERENCE_SLOWDOWN)
    return [each for each in rounds if each.reference_ms <= limit_ms]


def _early_stop_reason(rounds: Sequence[_Round], plan: TimingPlan, best_reference_ms: float) -> str:
    """Why the runs so far suffice; empty where the measurement must continue."""
    if not rounds or not (plan.relative_precision or plan.early_stop_above_ms):
        return ""
    files = _concatenate_blocks(rounds)
    if min(map(len, files)) < plan.min_runs:
        return ""
    slowdown = float(np.median([each.reference_ms for each in rounds])) / best_reference_ms
    # A busy machine alone must not put a file above its ceiling, so its interval is corrected as the result will be.
    correction = slowdown if slowdown > 1 + MAX_REFERENCE_SLOWDOWN else 1.0
    reason = ""
    # The rank interval takes runs for independent and is too narrow, but it only sorts. The bootstrap by rounds draws
    # 1000 resamples, so it runs only where the rank interval would stop. Both must agree.
    for interval in (rank_median_interval, partial(bootstrap_median_interval, n_rounds=len(rounds))):
        intervals = [interval(times) for times in files]
        reason = ""
        if plan.early_stop_above_ms is not None and intervals[0][0] / correction > plan.early_stop_above_ms:
            reason = f"ended when it was surely above {plan.early_stop_above_ms:g} ms"
        elif plan.relative_precision > 0 and _relative_half_width(files, intervals) <= plan.relative_precision:
            reason = f"ended when the interval was within {100 * plan.relative_precision:g}%"
        if not reason:
            return ""
    return reason


def _relative_half_width(files: Sequence[TimesMs], intervals: Sequence[tuple[float, float]]) -> float:
    """Largest distance of an end of any file's interval from its median, as a share of the median."""
    medians = map(float, map(np.median, files))
    return max(max(high / m - 1, 1 - low / m) for (low, high), m in zip(intervals, medians, strict=True))


def _to_result(
    rounds: Sequence[_Round], kept: Sequence[_Round], count: int, plan: TimingPlan, *,
    best_reference_ms: float, session_best_reference_ms: float, stop_reason: str,
) -> TimingResult:  # fmt: skip
    """Times of the rounds that count, in the order of time: the undisturbed ones, or the calmest where too few are.

    Args:
        rounds: all rounds.
        kept: the undisturbed ones.
        count: fewest runs of a file in one round.
        plan: how many runs are needed.
        best_reference_ms: see `TimingResult`.
        session_best_reference_ms: see `TimingResult`.
        stop_reason: see `TimingResult`.
    """
    enough = min(plan.runs, plan.min_runs) if stop_reason else plan.runs
    if len(kept) * count < enough:
        needed = min(len(rounds), -(-plan.runs // count))  # ceiling of runs / count
        # A limit on the reference, and no sort of the rounds: they stay in the order of time, and ties stay in.
        limit_ms = sorted(each.reference_ms for each in rounds)[needed - 1]
        kept = [each for each in rounds if each.reference_ms <= limit_ms]
    references = np.array([each.reference_ms for each in kept])
    half = len(references) // 2
    drift = float(np.median(references[half:]) / np.median(references[:half]) - 1) if half else 0.0
    return TimingResult(
        times_ms=_concatenate_blocks(kept),
        reference_ms=float(np.median(references)),
        best_reference_ms=best_reference_ms,
        session_best_reference_ms=session_best_reference_ms,
        drift=drift,
        rounds_kept=len(kept),
        rounds_made=len(rounds),
        stop_reason=stop_reason,
    )


def _concatenate_blocks(rounds: Sequence[_Round]) -> tuple[TimesMs, ...]:
    """The runs of each file over all rounds [files][runs]."""
    return tuple(np.concatenate(blocks) for blocks in zip(*(each.blocks for each in rounds), strict=True))


def _block_size(run_ms: float, plan: TimingPlan) -> int:
    """Runs of a file in one round: about `BLOCK_MS`, at least one, few enough that `runs` take `MIN_ROUNDS` rounds."""
    return max(1, min(int(BLOCK_MS / max(run_ms, 1e-6)), -(-plan.runs // MIN_ROUNDS)))


def _reference_ms(reference: Call, clock_ns: NanosecondClock) -> float:
    return float(np.median(_time_runs(reference, REFERENCE_RUNS, warm_up=2, clock_ns=clock_ns)))


def _warm_up(call: Call, clock_ns: NanosecondClock) -> float:
    """Run a call until it is warm; milliseconds of the last run."""
    begin = stamp = clock_ns()
    for done in range(1, WARM_UP_RUNS + 1):
        start = clock_ns()
        call()
        stamp = clock_ns()
        if done >= MIN_WARM_UP_RUNS and stamp - begin >= WARM_UP_S * 1e9:
            break
    return (stamp - start) / 1e6


def _time_runs(call: Call, runs: int, *, warm_up: int, clock_ns: NanosecondClock) -> TimesMs:
    """Milliseconds of each of `runs` single calls [runs].

    Each run is timed alone rather than all by one pair of stamps, which costs two clock reads a run, because a
    median and a 5th percentile need single runs.
    """
    for _ in range(warm_up):
        call()
    stamps = [0] * (2 * runs)  # allocated before, filled in place: no allocation between two stamps but the integers
    with gc_paused():
        for i in range(runs):
            stamps[2 * i] = clock_ns()
            call()
            stamps[2 * i + 1] = clock_ns()
    pairs = np.array(stamps, dtype=np.int64).reshape(runs, 2)  # [runs, (start, end)]
    return (pairs[:, 1] - pairs[:, 0]) / 1e6
