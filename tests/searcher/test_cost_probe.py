"""The cost probe: timed once in a run, and an empty forecast where the network cannot be evaluated."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import nas.searcher.cost_probe
from nas.config import make_config
from nas.errors import BuildError
from nas.evaluation.evaluator import Evaluator
from nas.results.throughput import read_forecasts
from nas.searcher.assembly import assemble
from nas.searcher.cost_probe import CostProbe, probe_candidate_cost, time_candidate
from tests.fake_runs import some_record
from tests.tiny_search import ASSEMBLY, FACES, TINY, Training, make_quick


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[Training]:
    monkeypatch.setattr(ASSEMBLY, "load_data", lambda *_, **__: FACES)
    return make_quick(monkeypatch)


@pytest.fixture
def evaluator(tmp_path: Path, trainings: list[Training]) -> Evaluator:
    return assemble(make_config(**(TINY | {"runs": tmp_path, "rungs": (0.1, 1.0)}))).evaluator


def probe(evaluator: Evaluator, *, remaining_s: float | None = None) -> None:
    config = evaluator.config
    flow = probe_candidate_cost(
        evaluator, trials=config.search.trials, training=config.training, remaining_s=remaining_s
    )
    for step in flow:
        try:
            result = step.function(evaluator, stop=None, **step.arguments)
        except Exception as error:
            with suppress(StopIteration):
                flow.throw(error)
        else:
            with suppress(StopIteration):
                flow.send(result)


def test_one_network_is_trained_for_a_few_steps_once_in_a_run(evaluator: Evaluator, trainings: list[Training]) -> None:
    probe(evaluator, remaining_s=600.0)
    forecast = read_forecasts(evaluator.folder)["pilot"]
    assert 0 < forecast["low_s"] < forecast["high_s"]
    assert "candidates in the budget, 3 candidates in " in forecast["words"]
    steps = [round(t.epochs * len(FACES.train) / 32) for t in trainings]
    assert steps == [1, 3], "of a batch of 32, the whole split"
    assert evaluator.folder.records() == []
    assert [f.name.partition("-")[2] for f in (evaluator.folder.path / "checkpoints").iterdir()] == ["execution.json"]
    probe(evaluator, remaining_s=600.0)
    assert len(trainings) == 2, "once in a run"


def test_bounds_differ_by_the_later_epochs(evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nas.training.trainer.Trainer, "estimate_epoch_seconds", lambda *_: 100.0)
    (configuration, *_) = evaluator.space.initial_configurations(channel_multiple=evaluator.profile.channel_multiple)
    estimate = time_candidate(
        evaluator, evaluator.compression.decode(evaluator.space, configuration), evaluator.config.training
    )
    assert estimate.high_s - estimate.low_s == pytest.approx(0.9 * TINY["epochs"] * 100.0)
    assert estimate.low_s > 0.1 * TINY["epochs"] * 100.0 + 100.0 / 3 * len(FACES.val) / len(FACES.train)


def test_network_that_cannot_be_built_gives_an_empty_forecast(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: Any, **__: Any) -> CostProbe:
        raise BuildError("no such net")

    monkeypatch.setattr(nas.searcher.cost_probe, "time_candidate", refuses)
    probe(evaluator)
    assert read_forecasts(evaluator.folder) == {"pilot": {"words": ""}}


def test_any_other_failure_does_not_stop_the_search(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any, **__: Any) -> CostProbe:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(nas.searcher.cost_probe, "time_candidate", fails)
    probe(evaluator)
    assert read_forecasts(evaluator.folder) == {"pilot": {"words": ""}}
    assert "no forecast, because the cost probe failed: RuntimeError: out of memory" in caplog.text


def test_run_with_a_search_record_is_not_probed(evaluator: Evaluator) -> None:
    evaluator.folder.append(some_record(0, 0.5, 1.0))
    probe(evaluator, remaining_s=600.0)
    assert read_forecasts(evaluator.folder) == {}
