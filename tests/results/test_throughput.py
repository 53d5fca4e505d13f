"""Throughput and forecasts computed by hand; search time without other work."""

import json
from pathlib import Path

import numpy as np
import pytest

from nas.results.record import Record
from nas.results.throughput import (
    estimate_throughput,
    format_duration,
    format_forecast,
    format_probe_forecast,
    read_forecasts,
    search_time_s,
    write_forecast_once,
)
from tests.fake_runs import a_run, some_record

MOMENT = 1_767_225_600.0
"""2026-01-01T00:00:00+00:00: trial n of the records made by hand finishes n minutes later."""


def candidates(n: int, *seconds: float) -> list[Record]:
    taken = seconds or (60.0,)
    return [some_record(i, 0.5, 1.0, seconds={"train": taken[i % len(taken)]}) for i in range(n)]


def test_throughput_is_candidates_by_wall_time() -> None:
    found = estimate_throughput(candidates(30), 1800.0)
    assert found is not None
    assert (found.candidates, found.per_hour, found.low, found.high) == (30, 60.0, 60.0, 60.0)
    assert found.feasible == 1.0
    some = [*candidates(3), some_record(3, None, 9.0, status="infeasible", seconds={"measure": 1.0})]
    half = estimate_throughput(some, 60.0)
    assert half is not None
    assert (half.per_hour, half.feasible) == (240.0, 0.75)
    assert half.low < 240.0 < half.high


def test_the_interval_widens_with_variation_and_narrows_with_candidates() -> None:
    few, many = (
        estimate_throughput(candidates(4, 10.0, 110.0), 240.0),
        estimate_throughput(candidates(64, 10.0, 110.0), 3840.0),
    )
    assert few is not None
    assert many is not None
    assert few.per_hour == many.per_hour == 60.0
    times = np.array([10.0, 110.0] * 32)
    error = np.std(times, ddof=1) / np.mean(times) / 8  # of the mean of 64
    assert (many.low, many.high) == pytest.approx((60 * np.exp(-1.95996 * error), 60 * np.exp(1.95996 * error)))
    assert few.low < many.low < 60 < many.high < few.high


def test_two_candidates_give_no_throughput() -> None:
    assert estimate_throughput(candidates(2), 100.0) is None
    assert estimate_throughput(candidates(9), 0.0) is None


def test_the_search_time_ends_with_its_last_candidate_and_excludes_other_work(tmp_path: Path) -> None:
    folder = a_run(tmp_path, records=[])
    assert search_time_s(folder, []) == 0.0
    searched = [some_record(trial, 0.5, 1.0) for trial in (1, 2, 3)]  # finished at minutes 1, 2 and 3
    base = some_record(-1, 0.5, 1.0, phase="base", key_of=99, seconds={"train": 30.0}, finished=searched[0].finished)
    later = some_record(9, 0.5, 1.0, phase="verified", seconds={"train": 500.0})
    folder.write("clocks/a.json", json.dumps([MOMENT, MOMENT + 900]))
    folder.write("clocks/b.json", json.dumps([MOMENT + 60, MOMENT + 120]))
    assert search_time_s(folder, [base, *searched, later]) == pytest.approx(180 + 1 - 30)


def test_a_forecast_has_the_end_and_the_number_of_candidates() -> None:
    found = estimate_throughput(candidates(30), 1800.0)
    assert found is not None
    assert str(found) == "60 candidates an hour (60 to 60), 100% feasible"
    assert format_forecast(found, trials=None, remaining_s=None) == str(found)
    assert format_forecast(found, trials=90, remaining_s=None).endswith("; ends in about 1:00:00 with about 90")
    assert format_forecast(found, trials=90, remaining_s=600).endswith("; ends in about 10:00 with about 40")
    assert format_forecast(found, trials=20, remaining_s=600).endswith("; ends in about 0:00 with about 30")


def test_a_probe_forecast_has_the_number_that_fits() -> None:
    told = format_probe_forecast(10.0, 40.0, trials=None, remaining_s=1200.0)
    assert told == "a first candidate takes 0:10 to 0:40, so about 30 to 120 candidates in the budget"
    assert format_probe_forecast(10.0, 40.0, trials=90, remaining_s=None).endswith("90 candidates in 15:00 to 1:00:00")


def test_only_the_first_forecast_is_stored(tmp_path: Path) -> None:
    folder = a_run(tmp_path, records=[])
    assert read_forecasts(folder) == {}
    write_forecast_once(folder, "pilot", {"words": "first"})
    write_forecast_once(folder, "pilot", {"words": "second"})
    write_forecast_once(folder, "early", {"words": "third"})
    assert read_forecasts(folder) == {"pilot": {"words": "first"}, "early": {"words": "third"}}


def test_durations_as_text() -> None:
    assert [format_duration(s) for s in (None, 0.2, 59.6, 3600, 7325)] == [
        "no limit",
        "0:00",
        "1:00",
        "1:00:00",
        "2:02:05",
    ]
