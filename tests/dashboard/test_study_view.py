"""View of a run: what a reader should see of each trial, and that nothing can be written through it."""

import json
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

import nas.dashboard.study_view
from nas.dashboard.artifacts import RunArtifacts
from nas.dashboard.study_view import StudyView
from nas.errors import ConfigError
from tests.fake_runs import a_model, a_run, some_record
from tests.fake_studies import a_study


def a_view(folder, **more) -> StudyView:
    return StudyView(folder, RunArtifacts(folder), **more)


def test_only_candidates_that_were_evaluated_and_are_feasible_have_values(tmp_path: Path) -> None:
    trials = {t.number: t for t in a_view(a_run(tmp_path)).get_all_trials(1)}
    assert trials[1].values == [0.55, 2.0]
    assert [(trials[n].state, trials[n].values) for n in (4, 6, 7)] == [
        (TrialState.PRUNED, None), (TrialState.PRUNED, None), (TrialState.FAIL, None)
    ]  # fmt: skip
    assert trials[4].user_attrs["reason"] == "max_latency exceeded by 80.0%"
    assert trials[4].user_attrs["violation.max_latency"] == 0.8
    assert "accuracy" not in trials[4].user_attrs


def test_verified_figures_and_provenance_are_attributes(tmp_path: Path) -> None:
    view = a_view(a_run(tmp_path), command="nas search")
    trials = {t.number: t for t in view.get_all_trials(1)}
    assert trials[2].user_attrs["verified_accuracy"] == 0.80
    assert [trials[n].user_attrs.get("front") for n in (2, 3, 5)] == ["verified", None, "search"]
    assert trials[2].user_attrs["latency"].startswith("4.00 ms [2.40, 6.00] predicted for Jetson Orin Nano (tensorrt;")
    (study,) = view.get_all_studies()
    assert study.user_attrs["command"] == "nas search"
    assert study.user_attrs["latencies"] == "predicted on Jetson Orin Nano (tensorrt)"
    assert study.user_attrs["limits"] == "max_latency 5"


def test_gene_values_duplicates_and_open_trials_come_from_the_study(tmp_path: Path) -> None:
    study = a_study(tmp_path, initial_picks=[{"width": 8, "operation": "pool"}])
    record = some_record(0, 0.5, 1.0)
    study.tell(study.ask(), record)
    study.folder.append(record)
    study.tell(study.ask(), record)
    study.fail(study.ask(), "the network falls apart")
    study.ask()
    first, duplicate, failed, running = a_view(study.folder).get_all_trials(1)
    assert first.params == {"width": 8, "operation": "pool"}
    assert duplicate.values == first.values == [0.5, 1.0]
    assert duplicate.user_attrs["duplicate_of"] == 0
    assert (failed.state, failed.user_attrs) == (TrialState.FAIL, {"reason": "the network falls apart"})
    assert (running.state, running.values) == (TrialState.RUNNING, None)


def test_a_view_follows_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nas.dashboard.study_view, "REFRESH_S", 0.0)
    folder = a_run(tmp_path)
    view = a_view(folder)
    before = len(view.get_all_trials(1))
    folder.append(some_record(8, 0.9, 1.0))
    assert len(view.get_all_trials(1)) == before + 1
    folder.append(some_record(8, 0.95, 1.0, phase="verified"))
    assert view.get_trial(8).user_attrs["verified_accuracy"] == 0.95 if view.get_all_trials(1) else False


def test_a_long_run_shows_its_front_and_its_last_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nas.dashboard.study_view, "MAX_TRIALS", 3)
    monkeypatch.setattr(nas.dashboard.study_view, "REFRESH_S", 0.0)
    folder = a_run(tmp_path, records=[some_record(n, 0.9 if n == 1 else 0.3, 1.0 + 0.1 * n) for n in range(8)])
    view = a_view(folder)
    assert [t.number for t in view.get_all_trials(1)] == [0, 1, 5, 6, 7]
    folder.append(some_record(8, 0.2, 3.0))
    assert [t.number for t in view.get_all_trials(1)] == [0, 1, 5, 6, 7, 8]
    assert view.get_all_studies()[0].user_attrs["shown"] == "6 of 9 trials: the front, and the last 3 and later"


def test_a_view_is_a_study_that_optuna_reads_and_cannot_write(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    before = {p.relative_to(folder.path) for p in folder.path.rglob("*")}
    study = optuna.load_study(study_name=folder.config.run_name, storage=a_view(folder))
    assert [t.number for t in study.best_trials] == [0, 1, 2, 5]
    assert study.metric_names == ["accuracy", "latency"]
    for write in (study.ask, lambda: study.set_user_attr("a", 1), lambda: study.add_trial(study.trials[0])):
        with pytest.raises(ConfigError, match=r"cannot be written; nas dashboard --writable"):
            write()
    assert not {p for p in folder.path.rglob("*") if "artifacts" not in p.parts} - {folder.path / p for p in before}


def test_each_trial_has_its_files(tmp_path: Path) -> None:
    folder = a_run(tmp_path, records=[])
    model = a_model(folder, "models/a.onnx")
    folder.append(some_record(0, 0.5, 1.0, **model))
    secret = tmp_path / "secret"
    secret.write_text("x")
    folder.append(some_record(1, 0.6, 2.0, model="../../secret", sha256="0" * 64))
    first, second = a_view(folder).get_all_trials(1)
    names = [json.loads(v)["filename"] for v in first.system_attrs.values()]
    assert names == ["a.onnx", "confusion-search.svg"]
    assert [json.loads(v)["filename"] for v in second.system_attrs.values()] == ["confusion-search.svg"]
    stored = folder.path / "artifacts" / model["sha256"]
    assert stored.read_bytes() == (folder.path / "models/a.onnx").read_bytes()
    assert stored.stat().st_nlink == 2, "one file with two names"
