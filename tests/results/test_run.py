"""Run as DataFrames, from records made by hand."""

import os
from pathlib import Path

import pytest

from nas.errors import ConfigError
from nas.results.front_table import COLUMNS
from nas.results.run import load_run, newest_run
from tests.fake_runs import a_run, a_search


def test_records_and_front_are_frames(tmp_path: Path) -> None:
    run = load_run(a_run(tmp_path).path)
    assert len(run.records) == len(a_search())
    assert list(run.records.columns[: len(COLUMNS)]) == list(COLUMNS)
    assert run.records.status.value_counts().to_dict() == {"complete": 9, "infeasible": 2, "failed": 1}
    assert run.front.trial.tolist() == [0, 1, 2]
    assert run.front.accuracy.tolist() == pytest.approx([0.5, 0.65, 0.8], abs=0.01)
    assert run.search_front.trial.tolist() == [0, 1, 2, 5]
    assert run.dropped.to_dict("records")[0]["by_trial"] == 2


def test_an_empty_run_has_empty_frames_with_columns(tmp_path: Path) -> None:
    run = load_run(a_run(tmp_path, records=[]).path)
    assert run.front.empty
    assert list(run.front.columns) == list(COLUMNS)
    assert run.data == {}


def test_the_newest_run_is_the_one_written_last(tmp_path: Path) -> None:
    first, second = a_run(tmp_path, name="first"), a_run(tmp_path, name="second")
    for folder, seconds in ((first, 2_000_000_000), (second, 1_000_000_000)):
        for file in ("config.toml", "records.jsonl"):
            os.utime(folder.path / file, (seconds, seconds))
    assert newest_run(tmp_path).path == first.path
    assert load_run(runs=tmp_path).folder.path == first.path


def test_a_missing_run_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no run yet; start one with `nas search`"):
        load_run(runs=tmp_path)
    with pytest.raises(ConfigError, match="is no run folder"):
        load_run(tmp_path)


def test_seed_statistics_are_a_frame(tmp_path: Path) -> None:
    found = load_run(a_run(tmp_path).path).seed_statistics
    assert found.trial.tolist() == [2, 5, 1, 0]
    assert found.rank_in_search.tolist() == [2, 1, 3, 4]
    assert found.rank_verified.tolist() == [1, 2, 3, 4]
    assert found.low.isna().all(), "one seed each"
    assert list(load_run(a_run(tmp_path / "none", records=[]).path).seed_statistics.columns) == list(found.columns)
