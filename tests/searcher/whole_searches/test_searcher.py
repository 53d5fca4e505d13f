"""The search, end to end on drawn spots: what it asks, what it trains, when it ends, and what cannot stop it."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from optuna.trial import TrialState

from nas import registry
from nas.errors import ConfigError, ExportError
from nas.evaluation.untrained import UntrainedMetrics
from nas.pipeline import Evaluator
from nas.results.front import search_front
from nas.results.run_folder import RunFolder
from nas.results.status import SearchStatus
from nas.searcher.searcher import Searcher
from nas.training.trainer import Trainer
from search_spaces._base import Choice, Value
from tests.fake_runs import some_latency
from tests.journal import trials_of
from tests.tiny_search import RUNGS, SEARCH, Training, assert_whole, replace_step, rows, searched, verified


def test_what_cannot_be_shipped_is_never_trained(go: Callable[..., RunFolder], trainings: list[Training]) -> None:
    seen: list[SearchStatus] = []
    folder = go(max_latency="1us", watch=seen.append)
    assert trainings == []
    assert [r.status for r in searched(folder)] == ["infeasible"] * 3
    assert verified(folder) == []
    assert rows(folder) == []
    assert (folder.path / "report.html").exists()
    assert all(t.constraints["max_latency"] > 0 for t in trials_of(folder) if t.state == TrialState.COMPLETE)
    assert (seen[-1].feasible_share, seen[-1].hypervolume, seen[-1].best) == (0.0, 0.0, "none yet")


def test_a_candidate_that_is_dominated_at_a_rung_stops_there_and_keeps_what_it_learned(
    go: Callable[..., RunFolder], trainings: list[Training], monkeypatch: pytest.MonkeyPatch
) -> None:
    values: dict[str, tuple[float, float]] = {}  # accuracy and latency at every rung

    def told(self: object, candidate: Any, *_: Any) -> float:
        if candidate.key not in values:
            values[candidate.key] = [(0.5, 2.0), (0.4, 3.0), (0.6, 4.0)][len(values)]
        return values[candidate.key][0]

    def drafted(self: Evaluator, candidate: Any, *_: Any) -> UntrainedMetrics:
        made = draft(self, candidate)
        told(self, candidate)
        return UntrainedMetrics(
            costs=made.costs, size_bytes=1, latency=some_latency(values[candidate.key][1]), host_latency=None
        )

    draft = Evaluator.evaluate_untrained
    monkeypatch.setattr(Evaluator, "evaluate_untrained", drafted)
    monkeypatch.setattr(Trainer, "float_accuracy", told)
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


class _Two(type(PLAIN)):  # type: ignore[misc]
    """`plain`, cut down to two nets."""

    def choices(self, *, channel_multiple: int) -> tuple[Choice, ...]:
        options = {name: (value,) for name, value in PLAIN.seeds(channel_multiple=channel_multiple)[0].items()}
        return tuple(Choice(name=name, options=of) for name, of in (options | {"stage4.depth": (0, 1)}).items())

    def seeds(self, *, channel_multiple: int) -> tuple[dict[str, Value], ...]:
        return ()


def test_a_candidate_is_evaluated_once_and_a_space_that_is_exhausted_ends_the_search(
    go: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    member = registry.load

    def load(family: str, name: str) -> Any:
        return _Two() if family == "space" else member(family, name)

    monkeypatch.setattr(SEARCH, "load", load)
    monkeypatch.setattr(SEARCH, "MAX_REPEATS", 6)
    folder = go(trials=50, sampler="random", compressors=())
    records, trials = searched(folder), trials_of(folder)
    assert len(records) == 2
    assert_whole(folder)
    assert len(trials) >= 2 + 6
    for trial in trials:
        (first,) = [r for r in records if r.key == trial.user_attrs["key"]]
        assert trial.user_attrs.get("duplicate_of", trial.number) == first.trial
        assert trial.values == [first.objective("accuracy"), first.objective("latency")]


def test_a_candidate_that_fails_is_recorded_and_the_search_goes_on(
    go: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def failing(export: Callable[..., Any]) -> Callable[..., Any]:
        def fails(graph: Any, path: Path, **more: Any) -> Any:
            made.append(path.name)
            if len(made) in (2, 5) or path.name.endswith("-verified.onnx"):
                raise ExportError("the checker refuses it")
            return export(graph, path, **more)

        return fails

    replace_step(monkeypatch, "export", failing)
    folder = go(trials=4, verify=1)
    assert [(r.status, r.reason) for r in searched(folder)] == [
        ("failed", "the checker refuses it"), ("complete", ""), ("failed", "the checker refuses it"), ("complete", ""),
    ]  # fmt: skip
    states = [t.state for t in trials_of(folder)]
    assert states[:4] == [TrialState.FAIL, TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]
    first, again = verified(folder)
    assert {(r.status, r.reason, r.key) for r in (first, again)} == {("failed", "the checker refuses it", first.key)}
    assert again.notes == ("second try, with half of the epochs; the first failed: the checker refuses it",)
    assert rows(folder), "the search front stands in for a verified one that is empty"
    assert [f["reason"] for f in json.loads((folder.path / "pareto.json").read_text())["fallen"]] == [first.reason]
    go(trials=4, verify=1)
    assert len(verified(folder)) == 2, "there is no third try"


def test_a_flat_search_ends_early_for_whoever_asks_so_and_says_why(
    go: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.results.stopping.is_flat", lambda curve, more: len(curve) >= 2 and more == 5)
    folder = go(trials=9, patience=5)
    assert len(searched(folder)) == 2
    end = json.loads((folder.path / "ended.json").read_text())
    assert (end["why"], end["candidates"], end["horizon"]) == ("flat", 2, 5)
    go(trials=9, patience=5)
    assert len(searched(folder)) == 2, "it was flat, and is"
    go(trials=3)
    assert len(searched(folder)) == 3, "without the flag it goes on"
    assert json.loads((folder.path / "ended.json").read_text())["why"] == "trials"
    assert_whole(folder)


def test_members_are_trained_with_several_seeds_from_weights_of_their_own(
    go: Callable[..., RunFolder], trainings: list[Training]
) -> None:
    states: list[SearchStatus] = []
    folder = go(trials=2, verify=1, verify_seeds=2, watch=states.append)
    first, again = verified(folder)
    assert (first.seed, again.seed, first.key) == (0, 1, again.key)
    assert (again.epochs, again.model) == (first.epochs, f"models/{first.key}-verified-1.onnx")
    assert first.sha256 != again.sha256
    for record in (first, again):
        assert hashlib.sha256((folder.path / record.model).read_bytes()).hexdigest() == record.sha256
    *_, on, anew = trainings
    assert (on.epochs, anew.epochs) == (1.0, 1.5), "a further seed learns for as long in all"
    assert on.seed != anew.seed
    weights = [name for name, tensor in on.before.items() if tensor.is_floating_point() and tensor.ndim > 1]
    assert not any(torch.equal(on.before[name], anew.before[name]) for name in weights)
    assert [row["model"] for row in rows(folder)] == [first.model]
    assert (states[-1].done, states[-1].total) == (2, 2)


def test_a_search_goes_on_beyond_its_seeds_and_asks_nothing_twice(
    go: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Searcher, "_initial_picks", lambda *_: [])
    fields = {"max_latency": "0.4ms", "compressors": ("prune_structured",), "proxies": ("nwot", "synflow")}
    folder = go(trials=5, **fields)
    records = searched(folder)
    assert len({r.key for r in records}) == len(records) == 5
    assert not [t for t in trials_of(folder) if "duplicate_of" in t.user_attrs]
    trained = [r for r in records if r.status == "complete"]
    assert trained
    assert all(r.proxies.keys() == {"nwot", "synflow"} for r in trained)
    assert all(r.proxies == {} for r in records if r.status == "infeasible")


def test_a_search_begins_with_what_an_earlier_one_found(go: Callable[..., RunFolder]) -> None:
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


def test_threads_are_as_before_the_search(go: Callable[..., RunFolder]) -> None:
    before = torch.get_num_threads()
    go(trials=1)
    assert torch.get_num_threads() == before
