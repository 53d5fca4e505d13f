"""Calibration timing: files are timed one by one here, and a target that cannot be reached is refused."""

import time
from pathlib import Path
from typing import Any

import pytest

from nas.errors import ConfigError, MeasureError
from nas.targets import calibration_timing as timing
from nas.targets.catalog import load_target
from tests.fake_runs import some_latency

SHAPE = (1, 48, 48)


def test_remote_device_needs_a_connection() -> None:
    with pytest.raises(ConfigError, match="must be this machine or a board that can be reached"):
        timing.make_measure_files(load_target("jetson"), SHAPE, print)


def test_failed_file_has_its_error_and_the_others_their_latency(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[dict[str, Any]] = []

    def measured(path: Path, runtime: object, **how: Any) -> object:
        calls.append(how)
        if path.name == "broken.onnx":
            raise MeasureError("no kernel")
        return some_latency(2.0, kind="measured")

    monkeypatch.setattr(timing, "measure_here", measured)
    way = timing.make_measure_files(load_target("cpu"), SHAPE, print)
    found = way([Path("a.onnx"), Path("broken.onnx"), Path("b.onnx")])
    assert [type(answer).__name__ for answer in found] == ["Latency", "MeasureError", "Latency"]
    assert calls[0] == calls[1] == calls[2]
    assert calls[0]["input_shape"] == SHAPE
    assert calls[0]["plan"].runs == timing.RUNS
    assert calls[0]["reference_cache"].name == "reference-processor-time.json"


def test_clock_is_processor_time_where_its_resolution_suffices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    info = time.get_clock_info("thread_time")
    monkeypatch.setattr(timing.time, "get_clock_info", lambda _: info)
    for resolution, clock in ((1e-9, time.thread_time_ns), (0.015, time.perf_counter_ns)):
        info.resolution = resolution
        assert timing._cpu_clock_ns() is clock
