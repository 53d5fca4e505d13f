"""Kill and resume: a search killed by SIGKILL at random moments ends with the results of one that was not."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState

from nas.results.record import Record
from nas.results.run_folder import RunFolder
from tests.journal import trials_of

ROOT = Path(__file__).resolve().parents[1]
KILLS = 12
TRIALS = 10
"""The first eight are the known good networks of the space; the others are random."""
FLAGS = (
    "search --target jetson --space plain --sampler random --epochs 0.5 --verify 2 --final-epochs 1 --threads 1 "
    "--seed 3 --data-option n=200 --data-option size=32 --name run"
)


@contextmanager
def searching(runs: Path, trials: int) -> Iterator[subprocess.Popen[bytes]]:
    """The process of `nas search`; killed at the end of the block at the latest."""
    code = "from tests.tiny_search import command_line; command_line()"
    command = [sys.executable, "-c", code, *FLAGS.split(), "--trials", str(trials), "--runs", str(runs)]
    environment = os.environ | {"XDG_CACHE_HOME": str(runs.parent / "cache"), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until_open(process: subprocess.Popen[bytes], folder: RunFolder, before: int) -> None:
    """Wait until the process has opened the run folder; before that it has written nothing."""
    end = time.monotonic() + 240
    while opened(folder) == before:
        assert process.poll() is None, "the search ended before it began"
        assert time.monotonic() < end, "the search did not begin within four minutes"
        time.sleep(0.01)


def opened(folder: RunFolder) -> int:
    lock = folder.path / "locks" / "config.lock"
    return lock.stat().st_mtime_ns if lock.exists() else 0


def lines(folder: RunFolder) -> list[dict[str, Any]]:
    return folder.json_lines("records.jsonl")


def whole(folder: RunFolder) -> list[Record]:
    """The records, after asserting that none occurs twice and that each file has the SHA-256 of its record."""
    records = folder.records()
    assert max(Counter((r.phase, r.key) for r in records).values(), default=1) == 1
    for record in records:
        if record.model:
            assert hashlib.sha256((folder.path / record.model).read_bytes()).hexdigest() == record.sha256
    return records


def is_explained(trial: FrozenTrial, records: dict[int, Record]) -> bool:
    """Whether a finished trial has a record, duplicates one, or has the reason why it has none."""
    if trial.number in records:
        return trial.user_attrs["key"] == records[trial.number].key
    return "duplicate_of" in trial.user_attrs or bool(trial.state == TrialState.FAIL and trial.user_attrs["reason"])


@pytest.mark.slow
@pytest.mark.timeout(1800)  # two minutes on two idle cores, many on busy ones
def test_search_that_is_killed_repeatedly_ends_with_the_same_results(tmp_path: Path) -> None:
    folder, trials, kills = RunFolder(tmp_path / "killed" / "run"), TRIALS, 0
    moments, seen, longest_s = random.Random(0), list[dict[str, Any]](), 3.0
    while kills < KILLS:
        before = opened(folder)
        with searching(tmp_path / "killed", trials) as process:
            wait_until_open(process, folder, before)
            try:
                assert process.wait(moments.uniform(0, longest_s)) == 0
                trials += 4  # so quick that the kills to come need more to do
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                assert process.wait(30) == -signal.SIGKILL
                kills += 1
        now = lines(folder)
        assert now[: len(seen)] == seen, "no record that was on the disk is lost"
        # Lives about as long as a candidate takes, however busy the machine: the kills shall come amid the work.
        longest_s *= 1.6 if now == seen else 0.7
        seen = now
        whole(folder)
    for place in ("killed", "undisturbed"):
        with searching(tmp_path / place, trials) as process:
            assert process.wait(240) == 0
    undisturbed = RunFolder(tmp_path / "undisturbed" / "run")

    assert lines(folder)[: len(seen)] == seen
    mine, theirs = whole(folder), whole(undisturbed)
    searched = {r.trial: r for r in mine if r.phase == "search"}
    assert len(searched) == trials
    assert len({r.worker for r in mine}) > 2, "several of the processes that were killed have finished candidates"
    figures = [(r.trial, r.key, r.status, r.rung, r.sha256, r.score) for r in searched.values()]
    assert figures == [(r.trial, r.key, r.status, r.rung, r.sha256, r.score) for r in theirs if r.phase == "search"]
    verified = {r.key: (r.sha256, r.score, r.test) for r in mine if r.phase == "verified"}
    assert {r.key: (r.sha256, r.score, r.test) for r in theirs if r.phase == "verified"}.items() <= verified.items()

    asked = trials_of(folder)
    assert [t.number for t in asked] == list(range(len(asked)))
    assert not [t for t in asked if t.state == TrialState.RUNNING]
    assert all(is_explained(t, searched) for t in asked if t.state.is_finished())
    assert [(t.params, t.state) for t in asked] == [(t.params, t.state) for t in trials_of(undisturbed)]
    assert (folder.path / "report.html").exists()
