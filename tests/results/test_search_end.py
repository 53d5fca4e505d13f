"""End of a search: decided once for all processes, stored, and described."""

import json
import time
from pathlib import Path

import pytest

from nas.config import make_config
from nas.results.hypervolume_curve import HypervolumeCurve, hypervolume_curve
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.results.search_end import SearchEnd, check_converged, describe_search_end, read_search_end, write_search_end
from nas.results.throughput import write_forecast_once
from nas.searcher.budget import SearchBudget
from nas.searcher.record_index import SearchRecords
from tests.fake_runs import a_run, some_record
from tests.results.test_throughput import MOMENT

BOTH = ("accuracy", "latency")


def flat_run(n: int = 60) -> list[Record]:
    """Records whose hypervolume rises in ten halving steps and then stays."""
    steps = [0.5 + 0.1 * (1 - 0.5**i) for i in range(10)]
    return [some_record(i, steps[i], 2.0) if i < 10 else some_record(i, 0.3, 2.5) for i in range(n)]


def hopeless(n: int = 60) -> list[Record]:
    return [some_record(i, None, 9.0, status="infeasible", violations={"max_latency": 1.0}) for i in range(n)]


def allowance(folder: RunFolder, **fields: object) -> SearchBudget:
    """Of a process that has worked for 100 s."""
    config = make_config(**fields)
    return SearchBudget(
        folder, SearchRecords(folder), search=config.search, training=config.training, started=time.time() - 100
    )


def test_convergence_is_decided_once_and_stays(tmp_path: Path) -> None:
    folder, records = a_run(tmp_path, records=[]), flat_run()
    assert not check_converged(folder, HypervolumeCurve(BOTH).update(records[:10]), 10)
    assert read_search_end(folder) is None
    assert check_converged(folder, HypervolumeCurve(BOTH).update(records), 10)
    kept = (folder.path / "ended.json").read_text()
    better = [*records, some_record(99, 0.99, 0.1)]
    assert check_converged(folder, HypervolumeCurve(BOTH).update(better), 10), (
        "another worker was still at it, and found something"
    )
    assert (folder.path / "ended.json").read_text() == kept
    assert not check_converged(folder, HypervolumeCurve(BOTH).update(better), 40), (
        "whoever asks for more, or for nothing, goes on"
    )


def test_a_run_without_a_feasible_candidate_never_converges(tmp_path: Path) -> None:
    folder = a_run(tmp_path, records=[])
    assert not check_converged(folder, HypervolumeCurve(BOTH).update(hopeless(300)), 5)
    assert set(hypervolume_curve(hopeless(30), BOTH)) == {0.0}


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"trials": 60}, "trials"),
        ({"trials": 61}, None),
        ({"trials": 500, "patience": 10}, "flat"),
        ({"trials": 60, "patience": 10}, "trials"),
        ({"trials": 60, "budget": 99.0}, "budget"),
        ({"trials": 500, "budget": 1000.0}, None),
    ],
)
def test_the_limit_that_is_reached_is_the_stop_reason(
    tmp_path: Path, fields: dict[str, object], why: str | None
) -> None:
    folder = a_run(tmp_path, records=flat_run(), max_latency=None)
    assert allowance(folder, **fields).stop_reason() == why
    if why is not None:
        allowance(folder, **fields).record_stop_reason(why)  # type: ignore[arg-type]
        end = read_search_end(folder)
        assert end is not None
        assert (end.why, end.candidates) == (why, 60)
        assert str(end).startswith("the search ended after 60 candidates: ")
        assert (end.horizon, "another 10 candidates would add" in str(end)) == (
            (10, True) if why == "flat" else (None, False)
        )


def test_only_a_different_end_replaces_the_stored_one(tmp_path: Path) -> None:
    folder = a_run(tmp_path, records=[])
    write_search_end(folder, SearchEnd(why="trials", candidates=20))
    write_search_end(folder, SearchEnd(why="trials", candidates=20))
    assert read_search_end(folder) == SearchEnd(why="trials", candidates=20)
    write_search_end(folder, SearchEnd(why="budget", candidates=30))
    assert read_search_end(folder) == SearchEnd(why="budget", candidates=30)


def test_a_spent_budget_in_a_later_call_keeps_the_stop_reason(tmp_path: Path) -> None:
    folder = a_run(tmp_path, records=flat_run(), max_latency=None)
    write_search_end(folder, SearchEnd(why="trials", candidates=60))
    allowance(folder, trials=60, budget=50.0).record_stop_reason("budget")
    assert read_search_end(folder) == SearchEnd(why="trials", candidates=60)
    assert check_converged(folder, HypervolumeCurve(BOTH).update(folder.records()), 10), "asked for later"
    kept = read_search_end(folder)
    folder.append(some_record(60, 0.3, 2.5))  # by another worker, which was still at it
    allowance(folder, trials=500, budget=50.0, patience=10).record_stop_reason("budget")
    assert read_search_end(folder) == kept
    allowance(folder, trials=500, budget=50.0).record_stop_reason("budget")
    assert read_search_end(folder) == SearchEnd(why="budget", candidates=61)


def test_the_description_has_reason_throughput_and_forecasts(tmp_path: Path) -> None:
    folder, records = a_run(tmp_path, records=[], max_latency=None), flat_run(50)
    assert describe_search_end(folder, []) == []
    folder.write("clocks/a.json", json.dumps([MOMENT, MOMENT + 49 * 60 - 1]))
    write_search_end(folder, SearchEnd(why="trials", candidates=40))
    write_forecast_once(folder, "pilot", {"words": "a first candidate takes 0:10 to 0:40"})
    ended, rate, ahead, forecast = describe_search_end(folder, records)
    assert ended == "the search ended after 40 candidates: all trials are done; 10 more have finished since"
    assert rate.startswith("throughput: 61.2 candidates an hour (61.2 to 61.2), 100% feasible")
    assert ahead.startswith("the next hour, by the run's own curve: another 61 candidates would add ")
    assert forecast == (
        "forecast before the search: a first candidate takes 0:10 to 0:40; the outcome was 50 candidates in 48:59"
    )
