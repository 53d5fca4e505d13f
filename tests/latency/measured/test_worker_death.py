"""Death of the timing worker: crashes are the file's fault the second time, interruptions never."""

import signal
from collections.abc import Callable, Iterator
from functools import partial

import pytest

import nas.latency.measured.worker_death
from nas.errors import MeasureError, WorkerDeathError
from nas.latency.measured.timing_loop import TimingPlan
from nas.latency.measured.worker import TimingWorker
from nas.latency.measured.worker_death import MAX_KILLS, describe_death, repeat_after_death
from nas.runtimes.oom_kills import OomKills
from nas.runtimes.reference_network import INPUT_SHAPE, reference_path


def measurement(*statuses: int) -> Callable[[], str]:
    """Dies with each status in turn, then succeeds."""
    left: Iterator[int] = iter(statuses)

    def measure() -> str:
        for status in left:
            raise describe_death("'m.onnx'", status, before=None)
        return "measured"

    return measure


@pytest.mark.parametrize(
    "statuses",
    [
        (),
        (-signal.SIGSEGV,),
        (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP, -signal.SIGINT, -60),
        (-signal.SIGKILL, 1, -signal.SIGKILL, -signal.SIGKILL),
        (-signal.SIGKILL,) * (MAX_KILLS - 1),
    ],
)
def test_a_measurement_is_repeated(statuses: tuple[int, ...]) -> None:
    assert repeat_after_death(measurement(*statuses)) == "measured"


def test_two_crashes_fail_it_with_their_names() -> None:
    with pytest.raises(MeasureError, match=r"'m.onnx' must live, but it ended with SIGABRT \(before: SIGSEGV\)"):
        repeat_after_death(measurement(-signal.SIGSEGV, -signal.SIGKILL, -signal.SIGABRT))


def test_a_worker_that_something_keeps_killing_is_no_fault_of_the_file() -> None:
    with pytest.raises(ChildProcessError, match=r"it ended with SIGKILL \(10 times in a row\)"):
        repeat_after_death(measurement(*(-signal.SIGKILL,) * MAX_KILLS))


def test_a_timing_over_its_limit_fails_the_second_time() -> None:
    with TimingWorker(time_limit_s=0.01) as worker:
        measure = partial(
            worker.measure, [reference_path()], runtime="onnxruntime", device="", input_shape=[INPUT_SHAPE],
            plan=TimingPlan(runs=20),
        )  # fmt: skip
        with pytest.raises(MeasureError, match=r"within 0\.01 s.* \(before: over its time limit\)"):
            repeat_after_death(measure)


@pytest.mark.parametrize(("after", "is_crash"), [(OomKills("a", 1), False), (OomKills("a", 2), True), (None, False)])
def test_a_kill_for_want_of_memory_is_a_crash(
    monkeypatch: pytest.MonkeyPatch, after: OomKills | None, is_crash: bool
) -> None:
    monkeypatch.setattr(nas.latency.measured.worker_death, "read_oom_kills", lambda: after)
    death = describe_death("'m.onnx'", -signal.SIGKILL, before=OomKills("a", 1))
    assert (death.is_crash, death.cause) == (is_crash, "out of memory" if is_crash else "SIGKILL")


def test_a_real_worker_that_is_killed_is_started_again() -> None:
    with TimingWorker() as timer:
        timer._process = timer._start()
        timer._process.kill()
        deaths = []

        def measure() -> float:
            try:
                found = timer.measure(
                    [reference_path()], runtime="onnxruntime", device="here", input_shape=[INPUT_SHAPE],
                    plan=TimingPlan(runs=20),
                )  # fmt: skip
            except WorkerDeathError as death:
                deaths.append((death.cause, death.is_crash))
                raise
            return found[0].latency_ms

        assert repeat_after_death(measure) > 0
    assert deaths == [("SIGKILL", False)]
