"""The search, end to end on drawn spots: what it leaves on disk, how it goes on, and what cannot stop it."""

import csv
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from optuna.trial import TrialState

from nas import registry
from nas.config import make_config
from nas.data._base import FaceData
from nas.draft import Draft
from nas.errors import ConfigError, ExportError, UserError
from nas.front import COLUMNS, search_front
from nas.pipeline import Evaluator
from nas.records import Record, RunFolder
from nas.search import Searcher, search
from nas.status import Status
from nas.study import Study
from nas.targets import target
from nas.trainer import Trainer
from search_spaces._base import Choice, Value
from tests.conftest import learnable_faces
from tests.fake_runs import some_latency
from tests.tiny_search import (
    Killed,
    Training,
    accuracy,
    after,
    make_quick,
    probabilities,
    replace_step,
    session,
    trials_of,
)

ROOT = Path(__file__).resolve().parents[1]
SEARCH: Any = import_module("nas.search")  # nas.search itself is the function
TINY: dict[str, Any] = {
    "target": "jetson", "space": "plain", "trials": 3, "epochs": 0.5, "rungs": (1.0,), "verify": 0, "final_epochs": 1,
    "threads": 1,
}  # fmt: skip
RUNGS = (1 / 9, 1 / 3, 1.0)
FACES = learnable_faces(train=32, val=24, test=12)
FILES = {"config.toml", "environment.json", "data.json", "target.json", "journal.log", "records.jsonl", "rungs.jsonl"}
FILES |= {"pareto.csv", "pareto.json", "importance.json", "report.html", "ended.json"}


@pytest.fixture(autouse=True)
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[Training]:
    monkeypatch.setattr(SEARCH, "load_data", lambda *_, **__: FACES)
    monkeypatch.setattr(SEARCH, "write_report", lambda folders, path: path.write_text("<html>"))
    return make_quick(monkeypatch)


@pytest.fixture
def go(tmp_path: Path) -> Callable[..., RunFolder]:
    """A tiny search below the test's own folder: `go(**fields that differ from TINY)`."""

    def go(watch: Callable[[Status], None] | None = None, **fields: Any) -> RunFolder:
        return search(make_config(**({"runs": tmp_path} | TINY | fields)), watch=watch)

    return go


@pytest.fixture(scope="module", params=["jetson", "cpu"])
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunFolder]:
    """A search that has come to its end."""
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        patch.setattr(SEARCH, "load_data", lambda *_, **__: FACES)
        runs = tmp_path_factory.mktemp("runs")
        yield search(make_config(**(TINY | {"target": request.param, "runs": runs, "rungs": RUNGS, "verify": 2})))


def searched(folder: RunFolder) -> list[Record]:
    return [r for r in folder.records() if r.phase == "search"]


def verified(folder: RunFolder) -> list[Record]:
    return [r for r in folder.records() if r.phase == "verified"]


def rows(folder: RunFolder) -> list[dict[str, str]]:
    with (folder.path / "pareto.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def assert_whole(folder: RunFolder) -> None:
    """No candidate twice, every record's file is the one it tells of, every trial is finished."""
    for records in (searched(folder), verified(folder)):
        assert max(Counter(r.key for r in records).values(), default=1) == 1
    for record in folder.records():
        if record.model:
            assert hashlib.sha256((folder.path / record.model).read_bytes()).hexdigest() == record.sha256
    trials = trials_of(folder)
    assert all(t.state.is_finished() for t in trials if t.state != TrialState.WAITING)
    told = {t.number: t.user_attrs["key"] for t in trials if "key" in t.user_attrs}
    assert {r.trial: r.key for r in searched(folder)}.items() <= told.items()


def test_a_finished_search_holds_what_was_promised(finished: RunFolder) -> None:
    assert {p.name for p in finished.path.iterdir() if p.is_file() and not p.name.startswith(".")} == FILES
    records = searched(finished)
    assert [r.trial for r in records] == [0, 1, 2]
    assert {r.status for r in records} == {"complete"}
    assert 1 <= len(verified(finished)) <= 2
    assert all(r.test is not None and r.test.n == 12 for r in verified(finished))
    assert all(r.test is None for r in records)
    assert_whole(finished)
    assert "plotly" in (finished.path / "report.html").read_text()
    notes = json.loads((finished.path / "data.json").read_text())
    assert (notes["train"], notes["val"], notes["test"], notes["synthetic"]) == (32, 24, 12, True)


def test_every_row_of_the_front_is_what_its_file_is(finished: RunFolder) -> None:
    front = rows(finished)
    assert front
    assert tuple(front[0]) == COLUMNS
    for row in front:
        file = finished.path / row["model"]
        assert hashlib.sha256(file.read_bytes()).hexdigest() == row["sha256"]
        assert int(row["size_bytes"]) == file.stat().st_size
        assert row["phase"] == "verified"
        assert row["latency_kind"] == ("measured" if finished.config.target == "cpu" else "predicted")
        assert float(row["latency_low_ms"]) <= float(row["latency_ms"]) <= float(row["latency_high_ms"])
        assert float(row["accuracy_low"]) <= float(row["accuracy"]) <= float(row["accuracy_high"])
        assert float(row["accuracy"]) == pytest.approx(accuracy(file, FACES))
        assert 0 < float(row["host_latency_ms"]) < 1000
        assert "synthetic" in row["accuracy_split"]
        shares = probabilities(file, FACES.val.images[:5])
        assert shares.shape == (5, 3)
        np.testing.assert_allclose(shares.sum(1), 1, atol=1e-3)
        told = session(file).get_modelmeta().custom_metadata_map
        assert json.loads(told["labels"]) == ["angry", "happy", "sad"]
    points = [(-float(row["accuracy"]), float(row["latency_ms"])) for row in front]
    for a in points:
        assert not any(b != a and b[0] <= a[0] and b[1] <= a[1] for b in points), "nobody on the front is dominated"


def test_the_same_command_again_trains_nothing(finished: RunFolder, trainings: list[Training]) -> None:
    before = {name: (finished.path / name).read_bytes() for name in ("records.jsonl", "pareto.csv", "pareto.json")}
    trials = len(trials_of(finished))
    states: list[Status] = []
    search(finished.config, watch=states.append)
    assert trainings == []
    assert {name: (finished.path / name).read_bytes() for name in before} == before
    assert len(trials_of(finished)) == trials
    assert (states[-1].phase, states[-1].feasible) == ("done", 1.0)
    assert states[-1].done == len(verified(finished))


def test_more_trials_go_on_where_the_search_stopped(go: Callable[..., RunFolder], tmp_path: Path) -> None:
    seen: list[Status] = []
    first = go(trials=1, verify=1, rungs=RUNGS)
    lines = (first.path / "records.jsonl").read_text()
    longer = go(trials=3, verify=2, rungs=RUNGS, watch=seen.append)
    assert (longer.path / "records.jsonl").read_text().startswith(lines)
    at_once = go(trials=3, rungs=RUNGS, runs=tmp_path / "at once")
    assert [(r.trial, r.key, r.sha256, r.rung) for r in searched(longer)] == [
        (r.trial, r.key, r.sha256, r.rung) for r in searched(at_once)
    ]
    assert_whole(longer)
    phases = [status.phase for status in seen]
    assert sorted(set(phases), key=phases.index) == ["search", "verify", "done"]
    counts = [status.done for status in seen if status.phase == "search"]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (1, 3)
    assert {status.total for status in seen if status.phase == "search"} == {3}
    assert any("rung 1" in status.activity for status in seen)


def test_another_configuration_or_other_data_in_the_folder_is_refused(
    go: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch, make_faces: Callable[..., FaceData]
) -> None:
    go(trials=1)
    with pytest.raises(ConfigError, match=r"\(epochs: 0\.5 there, 2\.0 asked\); give this one a --name of its own"):
        go(trials=1, epochs=2)
    monkeypatch.setattr(SEARCH, "load_data", lambda *_, **__: make_faces(seed=1))
    with pytest.raises(ConfigError, match=r"was started with data of digest .* but this data has"):
        go(trials=1)


def test_another_model_of_the_target_is_refused(go: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch) -> None:
    go(trials=1)
    profile = target("jetson")
    assert profile.latency is not None
    refitted = replace(profile, latency=replace(profile.latency, floor_us=1.0))
    monkeypatch.setattr(SEARCH, "target", lambda name: refitted if name == "jetson" else target(name))
    with pytest.raises(ConfigError, match="was started with another latency of target jetson"):
        go(trials=2)


@pytest.mark.parametrize("field", [{"sampler": "tpee"}, {"proxies": ("nope",)}, {"warm_start": (Path("absent"),)}])
def test_a_mistyped_word_leaves_no_folder_behind(
    go: Callable[..., RunFolder], tmp_path: Path, field: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match=r"tpee|nope|absent is no run folder"):
        go(trials=1, runs=tmp_path / "new", **field)
    assert not (tmp_path / "new").exists()


def test_predictions_of_an_earlier_version_are_not_mixed_with_ours(go: Callable[..., RunFolder]) -> None:
    folder = go(trials=1).path
    (folder / "target.json").unlink()  # which the earliest versions did not write
    records = folder / "records.jsonl"
    records.write_text(records.read_text().replace('"predictor":"roofline 2"', '"predictor":"roofline 1"'))
    with pytest.raises(ConfigError, match="was started with another version of the predictor of target jetson"):
        go(trials=1)


def test_a_calibration_in_mid_run_is_refused(go: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch) -> None:
    go(trials=1)
    monkeypatch.setattr("nas.same_run.fingerprint", lambda profile: "0123456789ab")
    with pytest.raises(ConfigError, match="was started with another calibration of target jetson"):
        go(trials=1)


def test_energy_is_refused_in_one_line_before_anything_is_made(go: Callable[..., RunFolder], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="objective energy needs a target that measures it") as caught:
        go(objectives=("accuracy", "latency", "energy"))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_shipped_is_never_trained(go: Callable[..., RunFolder], trainings: list[Training]) -> None:
    seen: list[Status] = []
    folder = go(max_latency="1us", watch=seen.append)
    assert trainings == []
    assert [r.status for r in searched(folder)] == ["infeasible"] * 3
    assert verified(folder) == []
    assert rows(folder) == []
    assert (folder.path / "report.html").exists()
    assert all(t.constraints["max_latency"] > 0 for t in trials_of(folder) if t.state == TrialState.COMPLETE)
    assert (seen[-1].feasible, seen[-1].hypervolume, seen[-1].best) == (0.0, 0.0, "none yet")


def test_a_candidate_that_is_dominated_at_a_rung_stops_there_and_keeps_what_it_learned(
    go: Callable[..., RunFolder], trainings: list[Training], monkeypatch: pytest.MonkeyPatch
) -> None:
    values: dict[str, tuple[float, float]] = {}  # accuracy and latency at every rung

    def told(self: object, candidate: Any, *_: Any) -> float:
        if candidate.key not in values:
            values[candidate.key] = [(0.5, 2.0), (0.4, 3.0), (0.6, 4.0)][len(values)]
        return values[candidate.key][0]

    def drafted(self: Evaluator, candidate: Any, *_: Any) -> Draft:
        made = draft(self, candidate)
        told(self, candidate)
        return Draft(costs=made.costs, size_bytes=1, latency=some_latency(values[candidate.key][1]), host=None)

    draft = Evaluator.draft
    monkeypatch.setattr(Evaluator, "draft", drafted)
    monkeypatch.setattr(Trainer, "quick_accuracy", told)
    folder = go(rungs=RUNGS)
    assert [r.rung for r in searched(folder)] == [3, 1, 3]
    assert len(trainings) == 3 + 1 + 3
    stopped = searched(folder)[1]
    assert stopped.epochs == pytest.approx(0.5 / 9)
    assert stopped.status == "complete"
    checkpoint = torch.load(folder.path / "checkpoints" / f"{stopped.key}-1.pt", weights_only=True)
    assert sum(t.numel() for t in checkpoint.values()) > 1000
    lines = [json.loads(line) for line in folder.lines("rungs.jsonl")]
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


@pytest.mark.parametrize(
    ("name", "calls"), [("_suggest", 70), ("tell", 0), ("tell", 2)], ids=["asking", "telling", "telling the last"]
)
def test_a_search_that_died_goes_on_and_leaves_no_trial_running(
    go: Callable[..., RunFolder],
    tmp_path: Path,
    trainings: list[Training],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    calls: int,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Study, name, after(calls, getattr(Study, name)))
        with pytest.raises(Killed):
            go()
    before = searched(RunFolder(tmp_path / "synthetic-plain-jetson"))
    folder = go()
    assert [r.trial for r in searched(folder)] == [0, 1, 2]
    assert searched(folder)[: len(before)] == before
    assert len(trainings) == len({t.seed for t in trainings}), "nothing is trained twice"
    assert_whole(folder)


def test_a_trial_left_after_the_last_is_given_up(go: Callable[..., RunFolder]) -> None:
    folder = go()
    searcher = Searcher(make_config(**(TINY | {"runs": folder.path.parent, "trials": 9})), lambda _: None)
    with ExitStack() as held:
        left = searcher.study.ask(held).number
    go()
    trial = trials_of(folder)[left]
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs["reason"] == "the search was over before this candidate was evaluated"
    assert len(searched(folder)) == 3


def test_a_verification_that_died_is_done_once(
    go: Callable[..., RunFolder], trainings: list[Training], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "append", after(2, RunFolder.append))
        with pytest.raises(Killed):
            go(trials=2, verify=2)
    assert len(trainings) == 3
    folder = go(trials=2, verify=2)
    assert verified(folder)
    assert len(trainings) == 3 + len(verified(folder)), "only the one that was under way is done again"
    assert_whole(folder)


def test_a_budget_in_seconds_ends_the_search_and_the_same_budget_is_not_spent_twice(
    go: Callable[..., RunFolder], trainings: list[Training]
) -> None:
    seen: list[Status] = []
    asked = {"trials": None, "budget": "4s", "search_share": 0.5, "verify": 1}
    folder = go(watch=seen.append, **asked)
    assert searched(folder)
    assert len(verified(folder)) <= 1
    assert (folder.path / "report.html").exists()
    left = [status.left_s for status in seen]
    assert all(a is not None and b is not None and a >= b for a, b in pairwise(left))
    assert folder.spent_s() >= 2
    done = len(trainings)
    go(**asked)
    assert len(trainings) == done
    assert_whole(folder)


def test_a_flat_search_ends_early_for_whoever_asks_so_and_says_why(
    go: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.ending.is_flat", lambda curve, more: len(curve) >= 2 and more == 5)
    folder = go(trials=9, stop_when_flat=5)
    assert len(searched(folder)) == 2
    end = json.loads((folder.path / "ended.json").read_text())
    assert (end["why"], end["candidates"], end["horizon"]) == ("flat", 2, 5)
    go(trials=9, stop_when_flat=5)
    assert len(searched(folder)) == 2, "it was flat, and is"
    go(trials=3)
    assert len(searched(folder)) == 3, "without the flag it goes on"
    assert json.loads((folder.path / "ended.json").read_text())["why"] == "trials"
    assert_whole(folder)


def test_members_are_trained_with_several_seeds_from_weights_of_their_own(
    go: Callable[..., RunFolder], trainings: list[Training]
) -> None:
    states: list[Status] = []
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
    monkeypatch.setattr(Searcher, "_seeds", lambda *_: [])
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
    front = {r.key: r.trial for r in search_front(earlier.records(), earlier.config.objectives)}
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


@pytest.mark.slow
def test_two_processes_work_side_by_side(tmp_path: Path) -> None:
    flags = (
        "--space plain --trials 6 --epochs 0.5 --verify 2 --final-epochs 1 --threads 1 --sampler random --name both "
        "--data-option n=200 --data-option size=32"
    )
    code = "from tests.tiny_search import command_line; command_line()"
    command = [sys.executable, "-c", code, "search", *flags.split(), "--runs", str(tmp_path / "runs")]
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    both = [subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(300) for process in both] == [0, 0]
    folder = RunFolder.existing(tmp_path / "runs" / "both")
    assert 6 <= len(searched(folder)) <= 7, "the last two may be under way at once"
    assert len({r.worker for r in searched(folder)}) == 2, "both have worked"
    assert_whole(folder)
    assert not [t for t in trials_of(folder) if t.state == TrialState.RUNNING]
    assert {row["key"] for row in rows(folder)} <= {r.key for r in verified(folder)}
