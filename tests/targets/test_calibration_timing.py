"""How files are timed: here, one by one, and nowhere where there is no way to the target."""

import time
from pathlib import Path
from typing import Any

import pytest

from nas.errors import ConfigError, MeasureError
from nas.targets import calibration_timing as timing
from nas.targets.catalog import load_target
from tests.fake_runs import some_latency

SHAPE = (1, 48, 48)


def test_a_device_that_is_elsewhere_needs_a_way_to_it() -> None:
    with pytest.raises(ConfigError, match="must be this machine or a board that can be reached"):
        timing.make_measure_files(load_target("jetson"), SHAPE, print)


def test_a_file_that_fails_is_answered_in_its_place_and_the_others_are_timed_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[dict[str, Any]] = []

    def measured(path: Path, runtime: object, **how: Any) -> object:
        asked.append(how)
        if path.name == "broken.onnx":
            raise MeasureError("no kernel")
        return some_latency(2.0, kind="measured")

    monkeypatch.setattr(timing, "measure_here", measured)
    way = timing.make_measure_files(load_target("cpu"), SHAPE, print)
    found = way([Path("a.onnx"), Path("broken.onnx"), Path("b.onnx")])
    assert [type(answer).__name__ for answer in found] == ["Measurement", "MeasureError", "Measurement"]
    assert asked[0] == asked[1] == asked[2]
    assert asked[0]["input_shape"] == SHAPE
    assert asked[0]["plan"].runs == timing.RUNS
    assert asked[0]["memory"].name == "reference-processor-time.json"


def test_a_net_is_timed_by_the_processor_time_of_its_thread_where_that_is_fine_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    info = time.get_clock_info("thread_time")
    monkeypatch.setattr(timing.time, "get_clock_info", lambda _: info)
    for resolution, clock in ((1e-9, time.thread_time_ns), (0.015, time.perf_counter_ns)):
        info.resolution = resolution
        assert timing._cpu_clock_ns() is clock
