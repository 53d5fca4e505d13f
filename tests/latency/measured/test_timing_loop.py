"""Timing loop on a simulated machine with known states: rounds that count, rounds left out, and when it stops."""

from collections.abc import Callable

import numpy as np
import pytest

from nas.latency.measured.timing_loop import (
    REFERENCE_RUNS,
    WARM_UP_RUNS,
    TimingPlan,
    TimingResult,
    measure_best_reference_ms,
    run_timing_loop,
)


class Machine:
    """A clock that calls advance by their microseconds times the slowdown of the machine at that moment."""

    def __init__(self, slow: Callable[[float], float] = lambda second: 1.0) -> None:
        self.now_ns, self._slow = 0, slow

    def clock(self) -> int:
        return self.now_ns

    def call(self, us: float, noise: float = 0.0) -> Callable[[], None]:
        random = np.random.default_rng(0)

        def run() -> None:
            factor = self._slow(self.now_ns / 1e9) * (1 + noise * random.standard_normal())
            self.now_ns += int(us * 1e3 * factor)

        return run


def timed(
    machine: Machine, *us: float, best_ms: float = float("inf"), noise: float = 0.0, **plan: float
) -> TimingResult:
    calls = [machine.call(each, noise) for each in us]
    return run_timing_loop(
        calls, machine.call(50), TimingPlan(**plan), clock_ns=machine.clock, best_reference_ms=best_ms
    )  # type: ignore[arg-type]


def test_on_a_calm_machine_every_round_counts() -> None:
    found = timed(Machine(), 100, 2000, runs=200)
    assert [float(np.median(times)) for times in found.times_ms] == [0.1, 2.0]
    assert min(map(len, found.times_ms)) >= 200
    assert (found.rounds_kept, found.slowdown, found.drift, found.stop_reason) == (found.rounds_made, 0, 0, "")


def test_rounds_in_a_slow_state_are_left_out_and_timed_again() -> None:
    machine = Machine(lambda second: 1.25 if 0.03 < second < 0.2 else 1.0)
    found = timed(machine, 100, runs=300, idle_wait_s=1.0)
    assert set(found.times_ms[0]) == {0.1}
    assert len(found.times_ms[0]) == 300
    assert (found.rounds_made > found.rounds_kept, found.slowdown) == (True, 0)


def test_the_choice_of_rounds_does_not_depend_on_the_times_of_the_files() -> None:
    found = timed(Machine(), 1000, noise=0.2, runs=300)
    assert found.rounds_kept == found.rounds_made
    assert np.std(found.times_ms[0]) == pytest.approx(0.2, rel=0.2)


def test_without_calm_the_calmest_rounds_count_after_the_idle_wait() -> None:
    machine = Machine(lambda second: 1.5 - 0.1 * second)
    found = timed(machine, 1000, best_ms=0.05, runs=100, idle_wait_s=1.0)
    assert found.slowdown > 0.2
    assert 1.0 < machine.now_ns / 1e9 < 1.5
    assert 100 <= len(found.times_ms[0]) < 110
    assert found.rounds_made > found.rounds_kept
    assert found.times_ms[0].max() <= 1.4, "the first rounds were the worst"


def test_the_time_limit_returns_the_runs_so_far() -> None:
    machine = Machine()
    found = timed(machine, 40_000, runs=200, max_duration_s=1.2)
    assert found.stop_reason == "ended after 1.2 s"
    assert 20 <= len(found.times_ms[0]) < 30
    assert machine.now_ns / 1e9 < 1.3


def test_at_the_time_limit_fewer_calm_runs_are_preferred_to_more_runs() -> None:
    machine = Machine(lambda second: 1.0 if second < 1.5 else 1.3)
    found = timed(machine, 20_000, runs=200, max_duration_s=3.0, min_runs=10)
    assert set(found.times_ms[0]) == {20.0}
    assert found.rounds_made > found.rounds_kept


@pytest.mark.parametrize(("noise", "few"), [(0.005, True), (0.3, False)])
def test_a_precise_interval_stops_before_all_runs(noise: float, few: bool) -> None:
    found = timed(Machine(), 10_000, noise=noise, runs=200, relative_precision=0.015)
    assert (len(found.times_ms[0]) < 100) == few
    assert len(found.times_ms[0]) >= 20
    assert found.stop_reason == ("ended when the interval was within 1.5%" if few else "")


@pytest.mark.parametrize(("ceiling_ms", "few"), [(5.0, True), (20.0, False)])
def test_a_file_surely_above_the_ceiling_stops_before_all_runs(ceiling_ms: float, few: bool) -> None:
    found = timed(Machine(), 10_000, noise=0.1, runs=100, early_stop_above_ms=ceiling_ms)
    assert (len(found.times_ms[0]) == 20) == few
    assert found.stop_reason == ("ended when it was surely above 5 ms" if few else "")


@pytest.mark.parametrize(("ceiling_ms", "sure"), [(9.0, True), (12.0, False)])
def test_a_busy_machine_alone_puts_no_file_above_the_ceiling(ceiling_ms: float, sure: bool) -> None:
    found = timed(Machine(lambda second: 1.3), 10_000, best_ms=0.05, runs=50, early_stop_above_ms=ceiling_ms)
    assert np.median(found.times_ms[0]) == pytest.approx(13.0)
    assert bool(found.stop_reason) == sure


def test_a_drift_of_the_reference_is_reported() -> None:
    found = timed(Machine(lambda second: 1 + 0.2 * second), 1000, runs=300)
    assert found.drift > 0.02


def test_a_slow_file_has_fewer_warm_up_runs_than_a_fast_one() -> None:
    made: list[float] = []
    machine = Machine()

    def counted(us: float) -> Callable[[], None]:
        call = machine.call(us)

        def run() -> None:
            made.append(us)
            call()

        return run

    run_timing_loop([counted(100), counted(40_000)], machine.call(50), TimingPlan(runs=2), clock_ns=machine.clock)
    assert made.count(100) >= WARM_UP_RUNS
    assert made.index(40_000) == WARM_UP_RUNS
    assert made.count(40_000) < 10


def test_the_initial_best_is_the_calmest_moment() -> None:
    machine = Machine(lambda second: 1.0 if 0.5 < second < 0.6 else 1.4)
    assert measure_best_reference_ms(machine.call(50), machine.clock, duration_s=1.0) == pytest.approx(0.05)
    assert machine.now_ns / 1e9 == pytest.approx(1.0, abs=1.4 * 50e-6 * (REFERENCE_RUNS + 2))


def test_too_few_runs_are_refused() -> None:
    with pytest.raises(ValueError, match="runs must be at least 2, but got 1"):
        TimingPlan(runs=1)
