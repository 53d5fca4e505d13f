"""The pilot: what one net takes, once in a run, and nothing of it where it cannot be told."""

from pathlib import Path
from typing import Any

import pytest

import nas.searcher.cost_probe
from nas.config import make_config
from nas.errors import BuildError
from nas.pipeline import Evaluator
from nas.results.throughput import read_forecasts
from nas.searcher.cost_probe import CostProbe, probe_candidate_cost, time_candidate
from nas.searcher.searcher import Searcher
from tests.fake_runs import some_record
from tests.tiny_search import FACES, SEARCH, TINY, Training, make_quick


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[Training]:
    monkeypatch.setattr(SEARCH, "load_data", lambda *_, **__: FACES)
    return make_quick(monkeypatch)


@pytest.fixture
def evaluator(tmp_path: Path, trainings: list[Training]) -> Evaluator:
    return Searcher(make_config(**(TINY | {"runs": tmp_path, "rungs": (0.1, 1.0)})), lambda _: None).evaluator


def test_one_net_is_drafted_and_trained_for_a_few_steps(evaluator: Evaluator, trainings: list[Training]) -> None:
    probe_candidate_cost(evaluator, remaining_s=600.0)
    kept = read_forecasts(evaluator.folder)["time_candidate"]
    assert 0 < kept["low_s"] < kept["high_s"]
    assert "candidates in the budget, 3 candidates in " in kept["words"]
    assert [round(t.epochs * len(FACES.train) / 32) for t in trainings] == [1, 3], "steps of 32 faces, all there are"
    assert evaluator.folder.records() == []
    assert [f.name.partition("-")[2] for f in (evaluator.folder.path / "checkpoints").iterdir()] == ["execution.json"]
    probe_candidate_cost(evaluator, remaining_s=600.0)
    assert len(trainings) == 2, "once in a run"


def test_the_epochs_are_what_tells_the_ends_apart(evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nas.training.trainer.Trainer, "estimate_epoch_seconds", lambda *_: 100.0)
    (net, *_) = evaluator.space.initial_configurations(channel_multiple=evaluator.profile.channel_multiple)
    found = time_candidate(evaluator, evaluator.compression.decode(evaluator.space, net))
    assert found.high_s - found.low_s == pytest.approx(0.9 * TINY["epochs"] * 100.0)
    assert found.low_s > 0.1 * TINY["epochs"] * 100.0 + 100.0 / 3 * len(FACES.val) / len(FACES.train)


def test_a_net_that_cannot_be_built_or_kills_the_process_gives_no_forecast(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: Any) -> CostProbe:
        raise BuildError("no such net")

    (evaluator.folder.path / "locks" / "pilot.deaths").write_text("1")
    monkeypatch.setattr(nas.searcher.cost_probe, "time_candidate", refuses)
    probe_candidate_cost(evaluator, remaining_s=None)
    assert read_forecasts(evaluator.folder) == {"pilot": {"words": ""}}
    (evaluator.folder.path / "forecast.json").unlink()
    probe_candidate_cost(evaluator, remaining_s=None)
    assert read_forecasts(evaluator.folder) == {"pilot": {"words": ""}}


def test_a_net_that_fails_in_any_other_way_stops_no_search(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any) -> CostProbe:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(nas.searcher.cost_probe, "time_candidate", fails)
    probe_candidate_cost(evaluator, remaining_s=None)
    assert read_forecasts(evaluator.folder) == {"pilot": {"words": ""}}
    assert "no forecast, as the pilot failed: RuntimeError: out of memory" in caplog.text


def test_a_search_that_has_begun_needs_none(evaluator: Evaluator) -> None:
    evaluator.folder.append(some_record(0, 0.5, 1.0))
    probe_candidate_cost(evaluator, remaining_s=600.0)
    assert read_forecasts(evaluator.folder) == {}
