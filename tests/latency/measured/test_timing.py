"""Measurements under a simulated clock, and one real measurement."""

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from nas.errors import MeasureError
from nas.latency.latency import Latency, corrected_for_load
from nas.latency.measured.timing import measure, measure_interleaved
from nas.runtimes.backends.onnxruntime import RUNTIME
from nas.runtimes.base import Floats, Runtime, Session
from nas.runtimes.reference_network import INPUT_SHAPE, reference_path

MODEL = Path("model.onnx")


class FakeMachine(Runtime):
    """Runs nothing: each call advances the clock by its planned time, and sessions are counted."""

    name = "fake"

    def __init__(self, model_us: float = 100, reference_us: Iterable[float] = (50,)) -> None:
        self.now_ns = 0
        self.most_open = self.open = self.loads = 0
        self.model_us = model_us
        self.reference_us = [*reference_us]

    def clock(self) -> int:
        return self.now_ns

    def unavailable_reason(self) -> str | None:
        return None

    def versions(self) -> dict[str, str]:
        return {"fake": "1"}

    def load(self, model: Path, *, threads: int = 1) -> "FakeSession":
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        if model == MODEL:
            return FakeSession(self, self.model_us)
        self.loads += 1
        return FakeSession(self, self.reference_us[min(self.loads, len(self.reference_us)) - 1])


class FakeSession(Session):
    def __init__(self, machine: FakeMachine, us: float) -> None:
        self.machine, self.us, self.calls = machine, us, 0

    def predict(self, images: np.ndarray) -> Floats:
        raise NotImplementedError

    def bound_run(self, images: np.ndarray) -> Callable[[], None]:
        def run() -> None:
            self.calls += 1
            cold = 10 if self.calls <= 30 else 1
            self.machine.now_ns += int(self.us * 1e3 * cold)

        return run

    def close(self) -> None:
        self.machine.open -= 1


def on(machine: FakeMachine, **extra: object) -> Latency:
    return measure(MODEL, machine, device="here", input_shape=(1, 8, 8), clock_ns=machine.clock, **extra)  # type: ignore[arg-type]


def test_warm_runs_are_quoted_in_milliseconds() -> None:
    machine = FakeMachine(model_us=100)
    found = on(machine, runs=250, threads=2)
    assert (found.latency_ms, found.low_ms, found.high_ms, found.p5_ms, found.p99_ms) == (0.1,) * 5
    assert (found.kind, found.device, found.runtime, found.runs, found.threads) == ("measured", "here", "fake", 250, 2)
    assert found.drift == 0
    assert found.notes == ()
    assert found.versions["fake"] == "1"


def test_no_session_remains_open() -> None:
    machine = FakeMachine()
    on(machine)
    assert (machine.loads, machine.most_open, machine.open) == (1, 2, 0)


def test_a_machine_that_is_steadily_busy_is_noticed_by_the_cache(tmp_path: Path) -> None:
    memory = tmp_path / "reference.json"
    assert on(FakeMachine(reference_us=[50]), reference_cache=memory).notes == ()
    found = on(FakeMachine(model_us=130, reference_us=[65]), reference_cache=memory, runs=20)
    assert found.slowdown == pytest.approx(0.3)
    assert found.latency_ms == pytest.approx(0.13)
    assert found.notes[0].startswith(
        "busy machine: the reference network takes 30% longer than at its best (0.0650 against 0.0500 ms), load "
    )
    assert on(FakeMachine(reference_us=[40]), reference_cache=memory).notes == ()
    assert on(FakeMachine(reference_us=[50]), reference_cache=memory).slowdown == pytest.approx(0.25)


def test_sessions_are_closed_when_a_run_fails() -> None:
    machine = FakeMachine()

    def broken() -> int:
        raise MeasureError("no clock")

    with pytest.raises(MeasureError, match="no clock"):
        measure(MODEL, machine, device="here", input_shape=(1, 8, 8), clock_ns=broken)
    assert machine.open == 0


def test_interleaving_gives_each_file_its_own_latency() -> None:
    machine = FakeMachine(model_us=100)
    found = measure_interleaved(
        [MODEL, MODEL], machine, device="here", input_shape=[(1, 8, 8), (3, 4, 4)], runs=205, clock_ns=machine.clock
    )
    assert [m.latency_ms for m in found] == [0.1, 0.1]
    assert all(m.runs >= 205 and m.drift == 0 and m.notes == ("2 files interleaved",) for m in found)
    assert machine.open == 0


def test_batches_are_timed_on_as_many_images_and_say_so() -> None:
    shapes: list[tuple[int, ...]] = []

    class Seen(FakeMachine):
        def load(self, model: Path, *, threads: int = 1) -> FakeSession:
            session = super().load(model, threads=threads)
            bound_run = session.bound_run
            session.bound_run = lambda images: (shapes.append(images.shape), bound_run(images))[1]  # type: ignore[method-assign]
            return session

    machine = Seen()
    found = measure_interleaved(
        [MODEL, MODEL], machine, device="here", input_shape=(1, 8, 8), batches=[1, 32], runs=20, clock_ns=machine.clock
    )
    assert shapes[1:] == [(1, 1, 8, 8), (32, 1, 8, 8)]
    assert [m.batch for m in found] == [1, 32]
    assert [m.images_per_s[0] for m in found] == [pytest.approx(10_000), pytest.approx(320_000)]
    assert on(Seen(), batch=8, runs=20).batch == 8
    with pytest.raises(ValueError, match="shorter than"):
        measure_interleaved([MODEL, MODEL], machine, device="here", input_shape=(1, 8, 8), batches=[1], runs=20)


def test_the_number_of_shapes_must_be_that_of_the_files() -> None:
    with pytest.raises(ValueError, match="one for each of 2, but got 1"):
        measure_interleaved([MODEL, MODEL], FakeMachine(), device="here", input_shape=[(1, 8, 8)])


def test_too_few_runs_are_refused() -> None:
    with pytest.raises(ValueError, match="runs must be at least 2, but got 1"):
        on(FakeMachine(), runs=1)
    with pytest.raises(ValueError, match="runs must be at least 2, but got 1"):
        measure_interleaved([MODEL], FakeMachine(), device="here", input_shape=(1, 8, 8), runs=1)


def test_a_real_measurement_is_ordered_and_survives_json() -> None:
    found = measure(reference_path(), RUNTIME, device="here", input_shape=INPUT_SHAPE, runs=200)
    assert found.p5_ms is not None
    assert found.p99_ms is not None
    assert 0 < found.p5_ms <= found.low_ms <= found.latency_ms <= found.high_ms <= found.p99_ms
    assert Latency.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert found.resident_bytes is None or 10 * 2**20 < found.resident_bytes < 100 * 2**30


def test_a_wrong_shape_is_a_measure_error() -> None:
    with pytest.raises(MeasureError, match="must fit the input"):
        measure(reference_path(), RUNTIME, device="here", input_shape=(3, 48, 48))


def test_the_whole_interval_is_corrected_for_load() -> None:
    found = Latency(
        kind="measured", device="d", runtime="r", latency_ms=1.2, low_ms=1.08, high_ms=1.32, p5_ms=1.0, slowdown=0.2
    )
    best = corrected_for_load(found)
    assert (best.low_ms, best.latency_ms, best.high_ms) == pytest.approx((0.9, 1.0, 1.1))
    assert (best.p5_ms, best.slowdown) == (1.0, 0.2), "what was measured stays"


def test_a_machine_that_became_slower_is_the_new_best_after_30_days(tmp_path: Path) -> None:
    memory = tmp_path / "reference.json"

    def slowdown(us: float) -> float | None:
        return on(FakeMachine(reference_us=[us]), reference_cache=memory, runs=20).slowdown

    def age(days: int) -> datetime:
        then = datetime.now(UTC) - timedelta(days=days)
        (entry,) = json.loads(memory.read_text()).items()
        memory.write_text(json.dumps({entry[0]: {**entry[1], "when": then.isoformat()}}))
        return then

    slowdown(50)
    then = age(29)
    assert slowdown(65) == pytest.approx(0.3)
    (kept,) = json.loads(memory.read_text()).values()
    assert (kept["ms"], kept["when"]) == (0.05, then.isoformat()), "what was only recalled was not reached again"
    age(31)
    assert slowdown(65) == 0.0
