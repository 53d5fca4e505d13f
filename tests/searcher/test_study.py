"""The study: trials are asked, resumed after their process died, and told."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from nas import registry
from nas.config import make_config
from nas.errors import ConfigError
from nas.searcher.assembly import make_study
from nas.searcher.study import AskedTrial, Study, derive_seed, to_distribution
from search_spaces._base import Choice
from tests.fake_runs import a_run, some_record
from tests.fake_studies import CHOICES, a_study
from tests.journal import trials_of


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return a_study(tmp_path)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((1, 2, 3), IntDistribution(1, 3)),
        ((8, 16, 24), IntDistribution(8, 24, step=8)),
        ((8, 32), IntDistribution(8, 32, step=24)),
        ((0.0, 0.25, 0.5, 0.75), FloatDistribution(0.0, 0.75, step=0.25)),
        ((0.1, 0.2, 0.3), FloatDistribution(0.1, 0.3, step=0.1)),
        ((8, 16, 32), CategoricalDistribution((8, 16, 32))),
        ((32, 16, 0), CategoricalDistribution((32, 16, 0))),
        (("conv", "pool"), CategoricalDistribution(("conv", "pool"))),
        ((48,), CategoricalDistribution((48,))),
    ],
)
def test_evenly_spaced_numbers_keep_their_order(options: tuple[Any, ...], expected: Any) -> None:
    found = to_distribution(Choice(name="gene", options=options))
    assert type(found) is type(expected)
    if isinstance(found, FloatDistribution):
        assert (found.low, found.high, found.step) == pytest.approx((expected.low, expected.high, expected.step))
    else:
        assert found == expected


def test_derived_seeds_differ_by_each_number_and_repeat() -> None:
    found = [derive_seed(a, b) for a in range(20) for b in range(20)] + [derive_seed(0, 0, c) for c in range(1, 20)]
    assert len(set(found)) == len(found)
    assert derive_seed(3, 4) == derive_seed(3, 4)
    assert all(0 <= seed < 2**32 for seed in found)


def test_told_record_is_stored_in_the_trial(study: Study) -> None:
    record = some_record(0, 0.75, 2.5, violations={"max_latency": -0.5})
    study.tell(study.ask(), record)
    (trial,) = trials_of(study.folder)
    assert trial.state == TrialState.COMPLETE
    assert trial.values == [0.75, 2.5]
    assert trial.constraints["max_latency"] == -0.5
    told = {name: trial.user_attrs[name] for name in ("key", "status", "latency_kind", "epochs", "macs", "model")}
    assert told == {
        "key": record.key, "status": "complete", "latency_kind": "predicted, Jetson Orin Nano", "epochs": 3.0,
        "macs": 1_000_000, "model": "models/0000-search.onnx",
    }  # fmt: skip
    assert "duplicate_of" not in trial.user_attrs


def test_objective_that_was_not_evaluated_has_the_worst_value(study: Study) -> None:
    record = some_record(0, None, 9.0, status="infeasible", reason="too slow", violations={"max_latency": 0.8})
    study.tell(study.ask(), record)
    (trial,) = trials_of(study.folder)
    assert trial.values == [0.0, 9.0]
    assert trial.user_attrs["reason"] == "too slow"
    assert trial.constraints["max_latency"] == 0.8


@pytest.mark.parametrize(("rung", "only"), [(1, True), (3, False)])
def test_first_rung_accuracy_is_stored_in_the_trial(study: Study, rung: int, only: bool) -> None:
    record = some_record(0, 0.6, 2.0, rung=rung)
    for at, accuracy in ((2, 0.5), (1, 0.4)):
        line = {"key": record.key, "rung": at, "values": [accuracy, 2.0]}
        study.folder.append_line("rungs.jsonl", json.dumps(line))
    study.tell(study.ask(), record)
    study.tell(study.ask(), some_record(1, 0.6, 2.0))
    first, second = trials_of(study.folder)
    assert first.user_attrs["look"] == [0.4, None]
    assert first.user_attrs["look_only"] is only
    assert "look" not in second.user_attrs


def test_failed_candidate_fails_its_trial_with_the_reason(study: Study) -> None:
    study.tell(study.ask(), some_record(0, None, None, status="failed", reason="loss is not finite"))
    (trial,) = trials_of(study.folder)
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs["reason"] == "loss is not finite"


def test_duplicate_has_the_values_of_the_first_trial_and_names_it(study: Study) -> None:
    record = some_record(0, 0.6, 1.5)
    for _ in range(2):
        study.tell(study.ask(), record)
    first, second = trials_of(study.folder)
    assert first.values == second.values == [0.6, 1.5]
    assert second.user_attrs["duplicate_of"] == 0


def test_trial_without_a_record_fails_with_the_reason(study: Study) -> None:
    study.fail(study.ask(), "no path")
    (trial,) = trials_of(study.folder)
    assert (trial.state, trial.user_attrs["reason"]) == (TrialState.FAIL, "no path")


def test_left_trials_are_returned_under_their_numbers_and_are_not_asked_again(study: Study, tmp_path: Path) -> None:
    asked = [study.ask(), study.ask()]
    again = a_study(tmp_path)
    left = again.left()
    assert [(trial.number, trial.picked) for trial in left] == [(trial.number, trial.picked) for trial in asked]
    assert again.ask().number == 2
    for trial in left:
        again.fail(trial, "over")
    assert len(trials_of(study.folder)) == 3
    assert [trial.number for trial in a_study(tmp_path).left()] == [2]


def test_new_trial_is_written_as_a_whole(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(study._storage, "set_trial_param", lambda *_: written.append("param"))
    monkeypatch.setattr(study._storage, "set_trial_system_attr", lambda *_: written.append("attribute"))
    asked = study.ask()
    (trial,) = trials_of(study.folder)
    assert (trial.number, trial.params, trial.state) == (asked.number, asked.picked, TrialState.RUNNING)
    assert written == []


def test_trial_that_was_told_in_part_is_told_again_without_a_warning(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = some_record(0, 0.5, 1.0, violations={"max_latency": -0.8, "max_size": 0.1}, status="infeasible")

    def dies(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        ask = study.ask()
        patch.setattr(optuna.Study, "tell", dies)
        with pytest.raises(KeyboardInterrupt):
            study.tell(ask, record)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = a_study(tmp_path)
        again.tell(again.left()[0], record)
    (trial,) = trials_of(study.folder)
    assert trial.state == TrialState.COMPLETE
    assert {name: trial.constraints[name] for name in record.violations} == record.violations


def test_initial_picks_are_each_asked_once_after_a_crash_between_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = [{"width": 24}, {"width": 16, "operation": "pool"}, {"width": 8}]
    enqueue, calls = optuna.Study.enqueue_trial, []

    def dies(self: optuna.Study, *arguments: Any, **more: Any) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        enqueue(self, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "enqueue_trial", dies)
        with pytest.raises(KeyboardInterrupt):
            a_study(tmp_path, seeds)
    study, asked = a_study(tmp_path, seeds), list[AskedTrial]()
    for _ in range(5):
        asked.append(study.ask())
        study.fail(asked[-1], "done")
        study = a_study(tmp_path, seeds)
    assert [a.picked["width"] for a in asked[:3]] == [24, 16, 8]
    assert [a.number for a in asked] == [0, 1, 2, 3, 4]


def test_study_with_other_objectives_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    study = a_study(tmp_path / "a", storage=url, name="same")
    with pytest.raises(ConfigError, match=r"study 'same' in sqlite:.* has other objectives; give this run a --name"):
        a_study(tmp_path / "b", storage=url, name="same", objectives=("accuracy", "latency", "size"))
    study._storage.remove_session()


def test_study_of_another_run_in_the_same_storage_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    study = a_study(tmp_path / "a", storage=url, name="same", trials=3)
    shutil.copytree(study.folder.path, tmp_path / "another host" / study.folder.path.name)
    again = a_study(tmp_path / "another host", storage=url, name="same", trials=5)
    with pytest.raises(
        ConfigError, match=r"study 'same' .* another run \(id: '\w+' there, '\w+' asked\); give this run"
    ):
        a_study(tmp_path / "a folder of its own", storage=url, name="same")
    with pytest.raises(ConfigError, match=r"study 'same' .* another run \(seed: 0 there, 5 asked; id: "):
        a_study(tmp_path / "b", storage=url, name="same", seed=5)
    study.folder.write("data.json", json.dumps({"digest": "0123"}))
    with pytest.raises(ConfigError, match=r"another run \(data: '\w*' there, '0123' asked\)"):
        make_study(study.folder, study.folder.config, CHOICES, registry.load("sampler", "random"))
    for opened in (study, again):
        opened._storage.remove_session()


def test_study_with_other_options_of_an_asked_gene_is_refused(tmp_path: Path) -> None:
    folder = a_run(tmp_path, records=[])
    begun = (Choice(name="bits.stem", options=(8, 16, 32)),)
    study = make_study(folder, folder.config, begun, registry.load("sampler", "random"))
    study.ask()
    now = (Choice(name="bits.stem", options=(8, 16)), Choice(name="calibration", options=("entropy", "mse")))
    refused = r"gene bits.stem must keep its options, but this run was started with \(8, 16, 32\) and now has \(8, 16\)"
    with pytest.raises(ConfigError, match=refused):
        make_study(folder, folder.config, now, registry.load("sampler", "random"))
    more = make_study(folder, folder.config, (*begun, now[1]), registry.load("sampler", "random"))
    assert more.ask().picked.keys() == {"bits.stem", "calibration"}, "a further gene is allowed"


def test_each_objective_has_its_direction(tmp_path: Path) -> None:
    study = a_study(tmp_path, objectives=("latency", "accuracy", "size"))
    assert [d.name for d in study._study.directions] == ["MINIMIZE", "MAXIMIZE", "MINIMIZE"]
    assert study._study.metric_names == ["latency", "accuracy", "size"]
    assert make_config(objectives=("latency", "accuracy", "size")).search.objectives == study.objectives


@pytest.mark.parametrize("storage", [None, "sqlite:///{}/study.db"])
def test_a_study_that_lost_its_trials_is_not_begun_anew(tmp_path: Path, storage: str | None) -> None:
    url = storage and storage.format(tmp_path)
    study = a_study(tmp_path / "runs", storage=url)
    study.folder.append(some_record(0, 0.5, 1.0))
    with pytest.raises(
        ConfigError, match=r"has no trials, but records\.jsonl has 1 candidates; it was deleted, or --st"
    ):
        a_study(tmp_path / "runs", storage=url)
    study.ask()
    a_study(tmp_path / "runs", storage=url)
