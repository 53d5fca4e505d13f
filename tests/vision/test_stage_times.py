"""Times of the stages, and what a process takes."""

import time

import numpy as np
import pytest

from nas.vision import stage_times
from nas.vision.stage_times import STAGES, ProcessMeter, StageTimes, summarize


def test_the_summary_is_of_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    times = StageTimes()
    ms = np.array([1.0, 2.0, 3.0, 10.0])
    for stage in STAGES:
        times.seconds[stage] = (ms / 1e3).tolist() if stage == "detect" else [0.0] * 4
    times.whole = (2 * ms / 1e3).tolist()
    rows = {row.stage: row for row in summarize(times)}
    assert list(rows) == [*STAGES, "whole"]
    assert rows["detect"].median_ms == pytest.approx(2.5)
    assert rows["detect"].p95_ms == pytest.approx(np.percentile(ms, 95))
    assert rows["detect"].frames_per_s == pytest.approx(4 / 0.016)
    assert rows["detect"].share == pytest.approx(0.5)
    assert rows["whole"].share == 1.0
    assert rows["read"].frames_per_s == float("inf")


def test_stages_are_timed_by_frame_and_forgotten_after_a_warm_up() -> None:
    times = StageTimes()
    for pause in (0.0, 0.02):
        with times.measure("crop"):
            time.sleep(pause)
        times.end_frame()
    assert len(times.whole) == len(times.seconds["read"]) == 2
    assert times.seconds["crop"][1] >= 0.02
    assert times.whole[1] >= times.seconds["crop"][1]
    times.clear()
    assert not times.whole
    assert not times.seconds["crop"]


def test_no_frames_have_no_summary() -> None:
    with pytest.raises(ValueError, match="at least one frame must have been timed"):
        summarize(StageTimes())


def test_a_busy_process_takes_cpu_time_and_memory() -> None:
    meter, end = ProcessMeter(), time.process_time() + 0.05
    while time.process_time() < end:
        pass
    use = meter.read()
    assert 0 < use.cpu_share < 1.5 * use.cores
    assert use.resident_bytes is not None
    assert use.peak_bytes is not None
    assert use.memory_share is not None
    assert 1e6 < use.resident_bytes <= 1.1 * use.peak_bytes
    assert 0 < use.memory_share < 1


def test_systems_that_do_not_say_give_no_memory(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(stage_times, "_STATM", tmp_path / "none")
    use = ProcessMeter().read()
    assert use.resident_bytes is None
    assert use.memory_share is None
