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

from nas.intervals import Times, bootstrap_interval, ranks_interval
from nas.latency.estimate import CALM
from nas.latency.measured.gc_control import uncollected

Clock = Callable[[], int]
Call = Callable[[], None]

WARM_UP_RUNS = 40
WARM_UP_S = 0.15
LEAST_WARM_UP = 3
BLOCK_MS = 10.0
"""About how long a block of a file is: short beside the states of a machine, long beside a change of file."""
ROUNDS = 10
"""Blocks at least, where nothing ends the measurement before."""
YARDSTICK_RUNS = 20
LEAST_AT_LIMIT = 3
"""Runs of each file that are made even where the time is up."""
FIRST_LOOK_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Plan:
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
    patience_s: float = 0.0
    limit_s: float | None = None
    precise: float = 0.0
    ceiling_ms: float | None = None
    least: int = 20

    def __post_init__(self) -> None:
        if self.runs < 2:
            raise ValueError(f"runs must be at least 2, but got {self.runs}; a quoted figure needs 200 or more")


@dataclass(frozen=True, kw_only=True)
class Rounds:
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

    times_ms: tuple[Times, ...]
    yardstick_ms: float
    best_ms: float
    here_ms: float
    drift: float
    kept: int
    made: int
    ended: str = ""

    @property
    def slowdown(self) -> float:
        """How much slower the reference network was than at its best, as a share."""
        return self.yardstick_ms / self.best_ms - 1


@dataclass(frozen=True)
class _Round:
    """Blocks of all files, and the slower of the reference network's medians before and after."""

    blocks: tuple[Times, ...]
    yardstick_ms: float


def timed_rounds(
    calls: Sequence[Call], yardstick: Call, plan: Plan, *, clock: Clock, best_ms: float = float("inf")
) -> Rounds:
    """Time calls side by side until the plan is fulfilled.

    Args:
        calls: run each file once.
        yardstick: runs the reference network once.
        plan: how long.
        clock: nanoseconds, monotonic.
        best_ms: median of the reference network at its best, as far as is known.
    """
    begin = clock()
    counts = [_block(_warmed(call, clock), plan) for call in calls]
    _warmed(yardstick, clock)
    rounds: list[_Round] = []
    before, enough_at_s = _yard(yardstick, clock), 0.0
    known_ms, here_ms = best_ms, before
    while True:
        blocks = tuple(
            _timed(call, n, warm_up=min(2, n // 5), clock=clock) for call, n in zip(calls, counts, strict=True)
        )
        after = _yard(yardstick, clock)
        rounds.append(_Round(blocks, max(before, after)))
        here_ms, before = min(here_ms, after), after
        best_ms = min(known_ms, here_ms)
        spent_s = (clock() - begin) / 1e9
        if min(counts) * len(rounds) < plan.runs:
            enough_at_s = spent_s
        kept = _calm(rounds, best_ms)
        complete = bool(kept) and min(counts) * len(kept) >= plan.runs
        judged = kept if kept or spent_s < plan.patience_s else rounds
        ended = "" if complete else _ended(judged, plan, best_ms)
        is_due = plan.limit_s is not None and spent_s >= plan.limit_s
        if is_due and not complete and min(counts) * len(rounds) >= LEAST_AT_LIMIT:
            ended = f"ended after {plan.limit_s:g} s"
        if complete or ended or (spent_s > enough_at_s and spent_s - enough_at_s >= plan.patience_s):
            return _result(rounds, kept, min(counts), plan, best_ms=best_ms, here_ms=here_ms, ended=ended)


def best_of(yardstick: Call, clock: Clock, *, seconds: float = FIRST_LOOK_S) -> float:
    """Least median of the reference network in so many seconds: a first idea of its best."""
    begin = clock()
    _warmed(yardstick, clock)
    best_ms = _yard(yardstick, clock)
    while clock() - begin < seconds * 1e9:
        best_ms = min(best_ms, _yard(yardstick, clock))
    return best_ms


def _calm(rounds: Sequence[_Round], best_ms: float) -> list[_Round]:
    return [each for each in rounds if each.yardstick_ms <= best_ms * (1 + CALM)]


def _ended(judged: Sequence[_Round], plan: Plan, best_ms: float) -> str:
    """What the runs tell already, so that the measurement may end; empty where it must go on."""
    if not judged or not (plan.precise or plan.ceiling_ms):
        return ""
    files = _joined(judged)
    if min(map(len, files)) < plan.least:
        return ""
    slower = float(np.median([each.yardstick_ms for each in judged])) / best_ms
    for interval in (ranks_interval, partial(bootstrap_interval, rounds=len(judged))):  # the second costs a little
        intervals = [interval(times) for times in files]
        sure = ""
        if plan.ceiling_ms is not None and intervals[0][0] / (slower if slower > 1 + CALM else 1.0) > plan.ceiling_ms:
            sure = f"ended when it was surely above {plan.ceiling_ms:g} ms"
        elif plan.precise > 0 and _reach(files, intervals) <= plan.precise:
            sure = f"ended when the interval was within {100 * plan.precise:g}%"
        if not sure:
            return ""
    return sure


def _reach(files: Sequence[Times], intervals: Sequence[tuple[float, float]]) -> float:
    """How far the widest interval reaches from its median, as a share of it."""
    medians = map(float, map(np.median, files))
    return max(max(high / m - 1, 1 - low / m) for (low, high), m in zip(intervals, medians, strict=True))


def _result(
    rounds: Sequence[_Round], kept: Sequence[_Round], count: int, plan: Plan, *,
    best_ms: float, here_ms: float, ended: str,
) -> Rounds:  # fmt: skip
    """The rounds that count, in the order of time: the calm ones, or where they are too few the calmest."""
    enough = min(plan.runs, plan.least) if ended else plan.runs
    if len(kept) * count < enough:
        needed = min(len(rounds), -(-plan.runs // count))
        limit = sorted(each.yardstick_ms for each in rounds)[needed - 1]
        kept = [each for each in rounds if each.yardstick_ms <= limit]
    yards = np.array([each.yardstick_ms for each in kept])
    half = len(yards) // 2
    drift = float(np.median(yards[half:]) / np.median(yards[:half]) - 1) if half else 0.0
    return Rounds(
        times_ms=_joined(kept),
        yardstick_ms=float(np.median(yards)),
        best_ms=best_ms,
        here_ms=here_ms,
        drift=drift,
        kept=len(kept),
        made=len(rounds),
        ended=ended,
    )


def _joined(rounds: Sequence[_Round]) -> tuple[Times, ...]:
    return tuple(np.concatenate(blocks) for blocks in zip(*(each.blocks for each in rounds), strict=True))


def _block(run_ms: float, plan: Plan) -> int:
    """Runs of a file in one round."""
    return max(1, min(int(BLOCK_MS / max(run_ms, 1e-6)), -(-plan.runs // ROUNDS)))


def _yard(yardstick: Call, clock: Clock) -> float:
    return float(np.median(_timed(yardstick, YARDSTICK_RUNS, warm_up=2, clock=clock)))


def _warmed(call: Call, clock: Clock) -> float:
    """Run until warm; milliseconds of the last run."""
    begin = stamp = clock()
    for done in range(1, WARM_UP_RUNS + 1):
        start = clock()
        call()
        stamp = clock()
        if done >= LEAST_WARM_UP and stamp - begin >= WARM_UP_S * 1e9:
            break
    return (stamp - start) / 1e6


def _timed(call: Call, runs: int, *, warm_up: int, clock: Clock) -> Times:
    """Milliseconds of each of `runs` single calls [runs]."""
    for _ in range(warm_up):
        call()
    stamps = [0] * (2 * runs)
    with uncollected():
        for i in range(runs):
            stamps[2 * i] = clock()
            call()
            stamps[2 * i + 1] = clock()
    pairs = np.array(stamps, dtype=np.int64).reshape(runs, 2)  # [runs, start and end]
    return (pairs[:, 1] - pairs[:, 0]) / 1e6
