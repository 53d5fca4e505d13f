"""A search that stopped or was killed resumes, and repeats no work; workers share its candidates."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from optuna.trial import TrialState

import nas.results.run_folder
from nas import registry
from nas.config import make_config
from nas.errors import ConfigError
from nas.evaluation.evaluator import Evaluator, Progress
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.results.status import SearchStatus
from nas.searcher.assembly import assemble
from nas.searcher.study import Study
from tests.journal import trials_of
from tests.tiny_search import RUNGS, TINY, Killed, Training, after, assert_whole, rows, searched, verified

ROOT = Path(__file__).resolve().parents[3]


def test_search_with_more_trials_resumes_where_it_stopped(go: Callable[..., RunFolder], tmp_path: Path) -> None:
    seen: list[SearchStatus] = []
    first = go(trials=1, verify=1, rungs=RUNGS)
    lines = (first.path / "records.jsonl").read_text()
    longer = go(trials=3, verify=2, rungs=RUNGS, on_status=seen.append)
    assert (longer.path / "records.jsonl").read_text().startswith(lines)
    at_once = go(trials=3, rungs=RUNGS, runs=tmp_path / "at once")
    assert [(r.trial, r.key, r.sha256, r.rung) for r in searched(longer)] == [
        (r.trial, r.key, r.sha256, r.rung) for r in searched(at_once)
    ]
    assert_whole(longer)
    phases = [status.stage for status in seen]
    assert sorted(set(phases), key=phases.index) == ["search", "verify", "done"]
    counts = [status.done for status in seen if status.stage == "search"]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (1, 3)
    assert {status.total for status in seen if status.stage == "search"} == {3}
    assert any("rung 1" in status.activity for status in seen)


@pytest.mark.parametrize(
    ("name", "calls"), [("_suggest", 70), ("tell", 0), ("tell", 2)], ids=["asking", "telling", "telling the last"]
)
def test_killed_search_resumes_and_leaves_no_trial_running(
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


def test_stale_trial_is_failed_once_the_search_is_over(go: Callable[..., RunFolder]) -> None:
    folder = go()
    study = assemble(make_config(**(TINY | {"runs": folder.path.parent, "trials": 9}))).study
    left = study.ask().number
    go()
    trial = trials_of(folder)[left]
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs["reason"] == "the search was over before this candidate was evaluated"
    assert len(searched(folder)) == 3


def test_what_an_earlier_version_failed_for_a_kill_or_a_full_disk_is_tried_again_once(
    go: Callable[..., RunFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    false = ["it ended the process 3 times", "OSError: [Errno 28] No space left on device"]
    reasons = iter([false[0], "the loss must be finite", false[1]])
    monkeypatch.setattr(type(registry.load("space", "plain")), "initial_configurations", lambda *_, **__: [])

    def blames(evaluator: Evaluator, record: Record, **_: object) -> Progress:
        return Progress(record=replace(record, reason=next(reasons)), is_final=True)

    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "draft", blames)
        patch.setattr(nas.results.run_folder, "is_false_failure", lambda _: False)
        patch.setattr(Study, "retry_false_failures", lambda _: None)
        first, fault, last = searched(go())
    folder = go()
    assert [(r.key, r.status == "failed") for r in searched(folder)] == [
        (fault.key, True), (first.key, False), (last.key, False)
    ]  # fmt: skip
    assert_whole(folder)
    go(trials=4)
    repeated = [t.user_attrs["retry_of"] for t in trials_of(folder) if "retry_of" in t.user_attrs]
    assert repeated == [first.trial, last.trial], "once"


def test_killed_final_training_is_done_once(
    go: Callable[..., RunFolder], trainings: list[Training], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "append", after(2, RunFolder.append))
        with pytest.raises(Killed):
            go(trials=2, verify=2)
    assert len(trainings) == 3
    folder = go(trials=2, verify=2)
    assert verified(folder)
    assert len(trainings) == 3 + len(verified(folder)), "only the interrupted one is repeated"
    assert_whole(folder)


def test_time_limit_ends_the_search_and_is_not_spent_twice(
    go: Callable[..., RunFolder], trainings: list[Training]
) -> None:
    seen: list[SearchStatus] = []
    asked = {"trials": None, "budget": "4s", "search_share": 0.5, "verify": 1}
    folder = go(on_status=seen.append, **asked)
    assert searched(folder)
    assert len(verified(folder)) <= 1
    assert (folder.path / "report.html").exists()
    left = [status.left_s for status in seen]
    assert all(a is not None and b is not None and a >= b for a, b in pairwise(left))
    assert folder.worked_s() >= 2
    done = len(trainings)
    go(**asked)
    assert len(trainings) == done
    assert_whole(folder)


def test_a_run_has_one_driver(go: Callable[..., RunFolder], tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "synthetic-plain-jetson")
    with folder.driven(), pytest.raises(ConfigError, match=rf"one driver, but process {os.getpid()} on .* works on it"):
        go()
    assert searched(go(trials=1))


@pytest.mark.slow
def test_two_workers_share_the_candidates_of_a_search(tmp_path: Path) -> None:
    flags = (
        "--space plain --trials 5 --epochs 0.5 --verify 2 --final-epochs 1 --threads 1 --workers 2 --sampler random "
        "--name both --data-option n=200 --data-option size=32"
    )
    command = [sys.executable, "-m", "nas", "search", *flags.split(), "--runs", str(tmp_path / "runs")]
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    assert subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=False).returncode == 0
    folder = RunFolder.open_existing(tmp_path / "runs" / "both")
    assert len(searched(folder)) == 5, "and none more"
    assert len({r.worker for r in folder.records()}) == 2
    assert str(os.getpid()) not in {r.worker.rpartition("/")[2] for r in folder.records()}
    assert_whole(folder)
    assert not [t for t in trials_of(folder) if t.state == TrialState.RUNNING]
    assert {row["key"] for row in rows(folder)} <= {r.key for r in verified(folder)}
    assert not list(folder.path.rglob(".*.onnx")), "no temporary file stays behind"
