"""Kills: a tiny search that is killed at random again and again, beside one that nobody disturbs.

Each life of the search ends at a random moment: mostly by SIGKILL, else by SIGHUP or SIGTERM, or its worker or its
process that times files is killed and the search lives on. In the end both runs must agree.

    python -m benchmarks.kills              20 kills, about a minute on an idle core
    python -m benchmarks.kills --kills 200
    python -m benchmarks.kills --keep DIR   keep both run folders

Prints the counts of each kind of kill and of each fault, and exits with 1 if there is a fault. The lives are forks of
one process that has imported everything, and a share of them (`--inline`) works without a worker process, because most
of a short life would else be the import of torch.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

import nas.cli.main
import nas.searcher.executors.inline
import nas.searcher.executors.processes
from nas.files import file_sha256
from nas.results.front import search_front
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.searcher import searcher  # noqa: F401
from nas.searcher.storage import open_storage
from nas.searcher.workforce import CRASHES_FILE

TRIALS = 10
"""The first eight are the known good networks of the space; the others are random."""
FLAGS = (
    "search --target jetson --space plain --sampler random --epochs 0.5 --verify 2 --final-epochs 1 --threads 1 "
    "--workers 1 --execution plain --seed 3 --data-option n=200 --data-option size=32 --name run"
)
WAYS = ("SIGKILL", "SIGKILL", "SIGKILL", "SIGHUP", "SIGTERM", "timing process", "worker", "worker")
"""Ways to end a life, equally likely. A life without a worker process is ended by SIGKILL instead."""
PATIENCE_S = 600.0
"""Seconds after which a search that nobody disturbs counts as hanging."""


@dataclass
class Outcome:
    """What the kills did.

    Attributes:
        kills: number of kills by way.
        longest_in_a_row: most kills over one record of the search.
        records: records of the search at the end.
        faults: one line for each; empty if the runs agree.
    """

    kills: Counter[str] = field(default_factory=Counter)
    longest_in_a_row: int = 0
    records: int = 0
    faults: list[str] = field(default_factory=list)


def kill_repeatedly(runs: Path, *, n_kills: int, seed: int = 0, inline: float = 0.0) -> Outcome:
    """Kill a search `n_kills` times, let it end, and compare it with an undisturbed one.

    Args:
        runs: an empty folder.
        n_kills: number of kills.
        seed: of moments and ways.
        inline: share of the lives without a worker process, 0..1.
    """
    folder, outcome, trials = RunFolder(runs / "killed" / "run"), Outcome(), TRIALS
    moments, seen, longest_s, in_a_row = random.Random(seed), list[str](), 3.0, 0
    while outcome.kills.total() < n_kills:
        executor = "inline" if moments.random() < inline else "processes"
        way = moments.choice(WAYS)
        if (executor, way) == ("inline", "worker"):
            way = "SIGKILL"
        process = start_search(runs / "killed", trials, executor)
        status = wait(process, moments.uniform(0.05, longest_s))
        if status is None:
            outcome.kills[way] += 1
            status = end_life(process, way)
        elif status == 0:
            trials += 4  # so quick that the kills to come need more to do
        # A signal that comes before the command handles it ends the process as any other.
        if status not in (0, 130, -signal.SIGKILL, -getattr(signal, way, 0)):
            outcome.faults.append(f"a search ended with status {status}")
        now = lines_of(folder)
        if now[: len(seen)] != seen:
            outcome.faults.append("a record that was on the disk is lost or changed")
        in_a_row = in_a_row + 1 if len(now) == len(seen) else 0
        outcome.longest_in_a_row = max(outcome.longest_in_a_row, in_a_row)
        # A life lasts about as long as a candidate takes, however busy the machine: the kills shall come amid the work.
        longest_s = min(14.0, longest_s * (1.6 if now == seen else 0.7))
        seen = now
    for place in ("killed", "undisturbed"):
        if (status := wait(start_search(runs / place, trials, "processes"), PATIENCE_S)) != 0:
            outcome.faults.append(f"the last search of {place} ended with status {status}")
    outcome.records = sum(r.phase == "search" for r in folder.records())
    outcome.faults += compare(folder, RunFolder(runs / "undisturbed" / "run"), trials)
    return outcome


def start_search(runs: Path, trials: int, executor: str) -> int:
    """The process number of a fork that runs the command line."""
    runs.mkdir(parents=True, exist_ok=True)
    if process := os.fork():
        return process
    try:
        os.environ |= {"XDG_CACHE_HOME": str(runs.parent / "cache")}
        quiet = os.open(runs / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        sys.argv = ["nas", *FLAGS.split(), "--trials", str(trials), "--runs", str(runs), "--executor", executor]
        nas.cli.main.main()
    except SystemExit as end:
        sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else 1)
    finally:
        os._exit(70)  # a fork must not run on in the code of its parent


def wait(process: int, limit_s: float) -> int | None:
    """Exit status of a process, negative for a signal; None where it still runs after `limit_s` seconds."""
    end = time.monotonic() + limit_s
    while True:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            return None
        time.sleep(0.01)


def end_life(process: int, way: str) -> int | None:
    """Kill a search, or a process of it, after which the search goes on for a while; the status that it ended with."""
    if way in ("timing process", "worker"):
        workers = children(process)
        timing = [each for worker in workers for each in children(worker)] or workers
        for each in workers if way == "worker" else timing:
            os.kill(each, signal.SIGKILL)
        if (status := wait(process, 3.0)) is not None:
            return status
        way = "SIGKILL"
    os.kill(process, getattr(signal, way))
    if (status := wait(process, PATIENCE_S)) is None:
        os.kill(process, signal.SIGKILL)
        return wait(process, PATIENCE_S) and None
    return status


def children(process: int) -> list[int]:
    """Process numbers of the children of a process."""
    return [
        int(child) for file in Path(f"/proc/{process}/task").glob("*/children") for child in file.read_text().split()
    ]


def compare(killed: RunFolder, undisturbed: RunFolder, trials: int) -> list[str]:
    """One line for each way in which the killed run differs from the other, or is not whole."""
    mine, theirs = killed.records(), undisturbed.records()
    faults = [f"{folder.path.parent.name}: {line}" for folder in (killed, undisturbed) for line in whole(folder)]
    failed = {r.key for r in theirs if r.status == "failed"}
    false = [r for r in mine if r.status == "failed" and r.key not in failed]
    faults += [f"trial {r.trial} failed falsely: {r.reason}" for r in false]
    if (killed.path / CRASHES_FILE).exists():
        faults.append(f"kills counted as crashes: {(killed.path / CRASHES_FILE).read_text()}")
    if sum(r.phase == "search" for r in mine) != trials:
        faults.append(f"{trials} candidates were asked for, but the killed run has another number")
    objectives = ("accuracy", "latency")
    views: dict[str, Callable[[Sequence[Record]], Any]] = {
        "candidates": lambda records: [_figures(r) for r in records if r.phase == "search"],
        "front": lambda records: [_figures(r) for r in search_front(list(records), objectives)],
    }
    faults += [f"the {name} differ" for name, view in views.items() if view(mine) != view(theirs)]
    if [(t.params, t.state) for t in trials_of(killed)] != [(t.params, t.state) for t in trials_of(undisturbed)]:
        faults.append("the trials differ")
    # Ends of the killed search before its last one have verified further members.
    verified = {r.key: _figures(r) for r in mine if r.phase == "verified"}
    if not verified.items() >= {r.key: _figures(r) for r in theirs if r.phase == "verified"}.items():
        faults.append("the verified members differ")
    return faults


def whole(folder: RunFolder) -> list[str]:
    """One line for each record that occurs twice, file that is not its record's, and trial without an end."""
    counts = Counter((r.phase, r.key) for r in folder.records())
    faults = [f"{count} records of {phase} {key}" for (phase, key), count in counts.items() if count > 1]
    with_file = [r for r in folder.records() if r.model]
    faults += [
        f"{r.model} is not that of its record" for r in with_file if file_sha256(folder.path / r.model) != r.sha256
    ]
    keys = {r.trial: r.key for r in folder.records() if r.phase == "search"}
    for trial in trials_of(folder):
        facts = trial.user_attrs
        if trial.state == TrialState.RUNNING:
            faults.append(f"trial {trial.number} has no end")
        elif trial.state.is_finished() and keys.get(trial.number, facts.get("key")) != facts.get("key"):
            faults.append(f"trial {trial.number} has the record of another candidate")
        elif trial.state.is_finished() and not {"reason", "key"} & facts.keys():
            faults.append(f"trial {trial.number} has neither a record nor a reason")
    return faults


def trials_of(folder: RunFolder) -> list[FrozenTrial]:
    """All trials of a run's study."""
    storage = open_storage(folder.path, None)
    (study,) = storage.get_all_studies()
    return storage.get_all_trials(study._study_id)


def lines_of(folder: RunFolder) -> list[str]:
    """Complete lines of records.jsonl."""
    file = folder.path / "records.jsonl"
    return file.read_text().split("\n")[:-1] if file.exists() else []


def _figures(record: Record) -> tuple[Any, ...]:
    return record.trial, record.key, record.status, record.rung, record.sha256, repr(record.score)


def main() -> None:
    """Kill, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--inline", type=float, default=0.0, help="share of the lives without a worker process, 0..1")
    parser.add_argument("--keep", type=Path, help="folder for both runs; a temporary one by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        start = time.monotonic()
        place = arguments.keep or Path(temporary)
        outcome = kill_repeatedly(place, n_kills=arguments.kills, seed=arguments.seed, inline=arguments.inline)
    ways = ", ".join(f"{count} {way}" for way, count in sorted(outcome.kills.items()))
    print(f"kills             {outcome.kills.total()} ({ways})")
    print(f"without a record  {outcome.longest_in_a_row} in a row at most")
    print(f"candidates        {outcome.records}")
    print(f"faults            {len(outcome.faults)}", *outcome.faults, sep="\n  ")
    print(f"seconds           {time.monotonic() - start:.0f}")
    sys.exit(1 if outcome.faults else 0)


if __name__ == "__main__":
    main()
