"""Disturbance of a measurement: how far the reference network may drift, and repeating a timing until it is calm."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from nas.intervals import TimesMs

DRIFT_LIMIT = 0.03
"""Relative change of the reference network from which a machine counts as busy.

On an idle machine figures must repeat to 1 % (benchmarks/timing.py), and the states of a shared one differ by
a quarter, so the exact value between them matters little.
"""
MAX_ATTEMPTS = 3
"""Timings of one file. A disturbance that outlasts three is the machine's usual state, and the notes say so."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TimingAttempt:
    """One timing of a file, and what speaks against it.

    Attributes:
        times_ms: milliseconds of each run [runs].
        drift: relative change of the reference network across the runs.
        disturbance: why the times are too long, in words; empty where nothing is known.
    """

    times_ms: TimesMs
    drift: float
    disturbance: str = ""

    @property
    def is_undisturbed(self) -> bool:
        """Whether the device was in one and the same state throughout."""
        return not self.disturbance and abs(self.drift) <= DRIFT_LIMIT


AttemptT = TypeVar("AttemptT", bound=TimingAttempt)


def time_least_disturbed(time_once: Callable[[Sequence[AttemptT]], AttemptT]) -> tuple[AttemptT, int]:
    """Time a file until an attempt is undisturbed, `MAX_ATTEMPTS` times at most.

    Args:
        time_once: makes one attempt; it receives the earlier ones.

    Returns:
        The least disturbed attempt, and how many were made. One with a disturbance comes after all without, then the
        smaller drift wins, then the earlier attempt. The times play no part: choosing the fastest would bias them.
    """
    attempts: list[AttemptT] = []
    while not attempts or (not attempts[-1].is_undisturbed and len(attempts) < MAX_ATTEMPTS):
        attempts.append(time_once(attempts))
    return min(attempts, key=lambda attempt: (bool(attempt.disturbance), abs(attempt.drift))), len(attempts)


def drift_note(drift: float, *, device: str = "machine") -> str:
    """What the notes of a latency say of a drift. `Latency.is_disturbed` looks for the word "busy" in it."""
    return f"busy {device}: the reference network drifted by {drift:+.1%}"
