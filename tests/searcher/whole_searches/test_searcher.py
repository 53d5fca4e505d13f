"""Whole searches on synthetic spots: what is proposed and trained, when a search ends, and what does not stop it."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from optuna.trial import TrialState

from nas import registry
from nas.config import make_config
from nas.errors import ConfigError, ExportError, UserError
from nas.evaluation.evaluator import Evaluator
from nas.evaluation.untrained import UntrainedMetrics
from nas.results.front import search_front
from nas.results.run_folder import RunFolder
from nas.results.status import SearchStatus
from nas.searcher.searcher import search
from nas.training.trainer import Trainer
from search_spaces._base import Choice, Value
from tests.fake_runs import some_latency
from tests.journal import trials_of
from tests.tiny_search import (
    ASSEMBLY,
    RUNGS,
    SEARCH,
    TINY,
    Training,
    assert_whole,
    replace_step,
    rows,
    searched,
    verified,
)


def test_infeasible_candidates_are_never_trained(go: Callable[..., RunFolder], trainings: list[Training]) -> None:
    seen: list[SearchStatus] = []
    folder = go(max_latency="1us", on_status=seen.append)
    assert trainings == []
    assert [r.status for r in searched(folder)] == ["infeasible"] * 3
    assert verified(folder) == []
    assert rows(folder) == []
    assert (folder.path / "report.html").exists()
    assert all(t.constraints["max_latency"] > 0 for t in trials_of(folder) if t.state == TrialState.COMPLETE)
    assert (seen[-1].feasible_share, seen[-1].hypervolume, seen[-1].best) == (0.0, 0.0, "none yet")


@pytest.mark.parametrize(
    "fields",
    [
        {"storage": "sqlite:////nowhere/x.db"}, {"storage": "nonsense://x"}, {"warm_start": ("nowhere",)},
        {"space": "nonsense"}, {"target": "nonsense"}, {"objectives": ("accuracy", "latency", "energy")},
        {"teacher": ("nowhere.onnx",)}, {"model": "nonsense:build"}, {"model": "resnet8", "weights": "nowhere.pt"},
        {"model": "resnet8", "final_epochs": 0}, {"sampler": "nonsense"}, {"compressors": "nonsense"},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("runs_exist", [True, False])
def test_a_search_that_is_refused_leaves_nothing_behind(
    tmp_path: Path, fields: dict[str, Any], runs_exist: bool
) -> None:
    runs = tmp_path if runs_exist else tmp_path / "runs"
    with pytest.raises(UserError):
        search(make_config(**(TINY | {"runs": runs} | fields)))
    assert list(tmp_path.iterdir()) == []


def test_a_search_that_is_refused_leaves_what_was_there(go: Callable[..., RunFolder], tmp_path: Path) -> None:
    folder = go(trials=1)
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    with pytest.raises(UserError):
        go(trials=1, objectives=("accuracy", "latency", "size"))
    with pytest.raises(UserError):
        go(trials=1, space="darts", warm_start=("nowhere",), name="other")
    assert [*tmp_path.iterdir()] == [folder.path]
    assert before == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))


def test_dominated_candidate_stops_at_its_rung_and_keeps_its_checkpoint(
    go: Callable[..., RunFolder], trainings: list[Training], monkeypatch: pytest.MonkeyPatch
) -> None:
    values: dict[str, tuple[float, float]] = {}  # (accuracy, latency), the same at every rung

    def accuracy_of(self: object, candidate: Any, *_: Any) -> float:
        if candidate.key not in values:
            values[candidate.key] = [(0.5, 2.0), (0.4, 3.0), (0.6, 4.0)][len(values)]
        return values[candidate.key][0]

    def metrics_of(self: Evaluator, candidate: Any, *_: Any) -> UntrainedMetrics:
        metrics = evaluate_untrained(self, candidate)
        accuracy_of(self, candidate)
        return UntrainedMetrics(
            costs=metrics.costs, size_bytes=1, latency=some_latency(values[candidate.key][1]), host_latency=None
        )

    evaluate_untrained = Evaluator.evaluate_untrained
    monkeypatch.setattr(Evaluator, "evaluate_untrained", metrics_of)
    monkeypatch.setattr(Trainer, "float_accuracy", accuracy_of)
    folder = go(rungs=RUNGS)
    assert [r.rung for r in searched(folder)] == [3, 1, 3]
    assert len(trainings) == 3 + 1 + 3
    stopped = searched(folder)[1]
    assert stopped.epochs == pytest.approx(0.5 / 9)
    assert stopped.status == "complete"
    checkpoint = torch.load(folder.path / "checkpoints" / f"{stopped.key}-1.pt", weights_only=True)
    assert sum(t.numel() for t in checkpoint.values()) > 1000
    lines = folder.json_lines("rungs.jsonl")
    assert [(line["rung"], tuple(line["values"])) for line in lines] == [
        (1, (0.5, 2.0)), (2, (0.5, 2.0)), (1, (0.4, 3.0)), (1, (0.6, 4.0)), (2, (0.6, 4.0)),
    ]  # fmt: skip


PLAIN = registry.load("space", "plain")


class _TwoNetworks(type(PLAIN)):  # type: ignore[misc]
    """The space `plain`, reduced to two networks."""

    def choices(self, *, channel_multiple: int) -> tuple[Choice, ...]:
        first = PLAIN.initial_configurations(channel_multiple=channel_multiple)[0]
        options = {name: (value,) for name, value in first.items()}
        return tuple(Choice(name=name, options=of) for name, of in (options | {"stage4.depth": (0, 1)}).items())

    def initial_configurations(self, *, channel_multiple: int) -> tuple[dict[str, Value], ...]:
        return ()


def test_each_candidate_is_evaluated_once_and_an_exhausted_space_ends_the_search(
    go: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    member = registry.load

    def load(family: str, name: str) -> Any:
        return _TwoNetworks() if family == "space" else member(family, name)

    monkeypatch.setattr(ASSEMBLY, "load", load)
    monkeypatch.setattr(SEARCH, "MAX_CONSECUTIVE_DUPLICATES", 6)
    folder = go(trials=50, sampler="random", compressors=())
    records, trials = searched(folder), trials_of(folder)
    assert len(records) == 2
    assert_whole(folder)
    assert len(trials) >= 2 + 6
    for trial in trials:
        (first,) = [r for r in records if r.key == trial.user_attrs["key"]]
        assert trial.user_attrs.get("duplicate_of", trial.number) == first.trial
        assert trial.values == [first.objective("accuracy"), first.objective("latency")]


def test_failed_candidate_is_recorded_and_the_search_goes_on(
    go: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    exported: list[str] = []

    def failing(export: Callable[..., Any]) -> Callable[..., Any]:
        def fails(graph: Any, path: Path, **more: Any) -> Any:
            exported.append(path.name)
            if len(exported) in (2, 5) or path.name.endswith("-verified.onnx"):
                raise ExportError("the checker refuses it")
            return export(graph, path, **more)

        return fails

    replace_step(monkeypatch, "export_onnx", failing)
    folder = go(trials=4, verify=1)
    assert [(r.status, r.reason) for r in searched(folder)] == [
        ("failed", "the checker refuses it"), ("complete", ""), ("failed", "the checker refuses it"), ("complete", ""),
    ]  # fmt: skip
    states = [t.state for t in trials_of(folder)]
    assert states[:4] == [TrialState.FAIL, TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]
    first, again = verified(folder)
    assert {(r.status, r.reason, r.key) for r in (first, again)} == {("failed", "the checker refuses it", first.key)}
    assert again.notes == ("second try, with half of the epochs; the first failed: the checker refuses it",)
    assert rows(folder), "the search front stands in for an empty verified front"
    assert [f["reason"] for f in json.loads((folder.path / "pareto.json").read_text())["fallen"]] == [first.reason]
    go(trials=4, verify=1)
    assert len(verified(folder)) == 2, "there is no third try"


def test_converged_search_ends_early_with_patience_and_records_why(
    go: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.results.search_end.has_converged", lambda curve, horizon: len(curve) >= 2 and horizon == 5)
    folder = go(trials=9, patience=5)
    assert len(searched(folder)) == 2
    end = json.loads((folder.path / "ended.json").read_text())
    assert (end["why"], end["candidates"], end["horizon"]) == ("flat", 2, 5)
    go(trials=9, patience=5)
    assert len(searched(folder)) == 2, "it has converged for good"
    go(trials=3)
    assert len(searched(folder)) == 3, "without patience it goes on"
    assert json.loads((folder.path / "ended.json").read_text())["why"] == "trials"
    assert_whole(folder)


def test_further_seeds_start_from_weights_of_their_own(go: Callable[..., RunFolder], trainings: list[Training]) -> None:
    states: list[SearchStatus] = []
    folder = go(trials=2, verify=1, verify_seeds=2, on_status=states.append)
    first, again = verified(folder)
    assert (first.seed, again.seed, first.key) == (0, 1, again.key)
    assert (again.epochs, again.model) == (first.epochs, f"models/{first.key}-verified-1.onnx")
    assert first.sha256 != again.sha256
    for record in (first, again):
        assert hashlib.sha256((folder.path / record.model).read_bytes()).hexdigest() == record.sha256
    *_, continued, restarted = trainings
    assert (continued.epochs, restarted.epochs) == (1.0, 1.5), "a further seed trains as many epochs in all"
    assert continued.seed != restarted.seed
    weights = [name for name, tensor in continued.before.items() if tensor.is_floating_point() and tensor.ndim > 1]
    assert not any(torch.equal(continued.before[name], restarted.before[name]) for name in weights)
    assert [row["model"] for row in rows(folder)] == [first.model]
    assert (states[-1].done, states[-1].total) == (2, 2)


def test_search_proposes_no_candidate_twice(go: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ASSEMBLY, "_initial_picks", lambda *_, **__: [])
    fields = {"max_latency": "0.4ms", "compressors": ("prune_structured",), "proxies": ("nwot", "synflow")}
    folder = go(trials=5, **fields)
    records = searched(folder)
    assert len({r.key for r in records}) == len(records) == 5
    assert not [t for t in trials_of(folder) if "duplicate_of" in t.user_attrs]
    trained = [r for r in records if r.status == "complete"]
    assert trained
    assert all(r.proxies.keys() == {"nwot", "synflow"} for r in trained)
    assert all(r.proxies == {} for r in records if r.status == "infeasible")


def test_warm_start_evaluates_the_earlier_front_first(go: Callable[..., RunFolder]) -> None:
    earlier = go(trials=3, name="earlier")
    folder = go(trials=4, name="later", warm_start=(earlier.path,))
    front = {r.key: r.trial for r in search_front(earlier.records(), earlier.config.search.objectives)}
    first = searched(folder)[: len(front)]
    assert {r.key for r in first} == set(front)
    for record in first:
        assert any(f"trial {front[record.key]} of {earlier.path}" in note for note in record.notes)
    assert_whole(folder)
    with pytest.raises(ConfigError, match=r"warm_start must name runs that searched darts, but .* searched plain"):
        go(space="darts", name="other", warm_start=(earlier.path,))


def test_search_restores_the_number_of_torch_threads(go: Callable[..., RunFolder]) -> None:
    before = torch.get_num_threads()
    go(trials=1)
    assert torch.get_num_threads() == before
