"""Repeating a timing until it is undisturbed: how often, and which attempt counts."""

from collections.abc import Sequence

import numpy as np
import pytest

from nas.runtimes.disturbance import DRIFT_LIMIT, MAX_ATTEMPTS, TimingAttempt, drift_note, time_least_disturbed


def attempt(drift: float, disturbance: str = "") -> TimingAttempt:
    return TimingAttempt(times_ms=np.ones(2), drift=drift, disturbance=disturbance)


@pytest.mark.parametrize(
    ("planned", "best", "count"),
    [
        ([(0.01, "")], 0, 1),
        ([(DRIFT_LIMIT, "")], 0, 1),
        ([(0.2, ""), (-0.01, "")], 1, 2),
        ([(0.2, ""), (-0.1, ""), (0.3, "")], 1, 3),
        ([(0.2, ""), (0.0, "throttled"), (0.3, "")], 0, 3),
        ([(0.2, "hot"), (0.0, "hot"), (0.1, "hot")], 1, 3),
        ([(0.2, ""), (-0.2, ""), (0.2, "")], 0, 3),
    ],
)
def test_the_least_disturbed_attempt_counts(planned: list[tuple[float, str]], best: int, count: int) -> None:
    attempts = [attempt(*each) for each in planned]
    earlier: list[int] = []

    def time_once(done: Sequence[TimingAttempt]) -> TimingAttempt:
        earlier.append(len(done))
        return attempts[len(done)]

    assert time_least_disturbed(time_once) == (attempts[best], count)
    assert earlier == list(range(count))
    assert count <= MAX_ATTEMPTS


def test_a_drift_is_noted_as_busy_with_its_sign() -> None:
    assert drift_note(-0.0512) == "busy machine: the reference network drifted by -5.1%"
    assert drift_note(0.2, device="board") == "busy board: the reference network drifted by +20.0%"
