"""Seconds and memory of a run that holds many records: opening, report, pick, resuming, and asking for more.

    python -m benchmarks.many_records --records 10000 --run-folder many-records --json OUT.json

The run folder is synthetic except for its form. A real search of two candidates on the synthetic faces gives the
template, whose records are repeated with random candidates of the space. Their accuracies, latencies and sizes follow a
formula. All records name the model file of the template and are dated 30 s apart, and the study holds one finished
trial per record, written as a search writes it. `--journal params` writes a line for each parameter, as versions up to
0.1 did, instead of one for all. `--run-folder` keeps the folder, and uses one that exists. Each step works on a copy,
so that all steps and calls start from the same files.

Each step runs in a process of its own. Printed are its wall time, the processor time of it and its children, and its
peak resident memory (Linux only). "asks and trials" is the tool's own search loop, in which the evaluation of a
candidate returns at once with figures by the formula. A step that exceeds `--limit` seconds is killed, and the table
states lower bounds. The second table compares with the bars of this project. A busy machine changes processor time
less than wall time, but it does change it: two programs on one core of two threads take about 1.6 times as long.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from benchmarks.ask_seconds import SearchParts

NAME = "many-records"
TEMPLATE_TRIALS = 2
SEARCH = (
    "search --target jetson --space plain --epochs 0.5 --rungs 0.5,1 --verify 0 --threads 1 --seed 0 "
    f"--data-option n=200 --data-option size=32 --name {NAME}"
).split()
LOOP = [sys.executable, "-m", "benchmarks._many_trials", "RUN"]
BARS = {"ask, mean": 0.1, "ask, slowest": 0.25, "overhead of a trial, mean": 0.3, "resume": 5.0, "nas report": 5.0}
"""Seconds that each figure may take with 10,000 records."""
MEMORY_BAR_MIB = 1024.0
"""Peak memory that the search may take."""
READ = "import sys, nas; run = nas.load_run(sys.argv[1]); print(len(run.front), len(run.records))"
TIMES = {"wall": "wall_s", "processor": "processor_s"}
"""Kinds of time, and their fields of `StepCost`."""
BEGUN, APART = datetime(2026, 1, 1, tzinfo=UTC), timedelta(seconds=30)
"""Start of the synthetic run, and the time between two of its records."""


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """Cost of one step.

    Attributes:
        step: in words.
        wall_s: wall time in seconds.
        processor_s: processor time of all its threads and processes in seconds.
        memory_mib: peak resident memory.
        is_done: whether the step finished; otherwise the figures are lower bounds.
    """

    step: str
    wall_s: float
    processor_s: float
    memory_mib: float
    is_done: bool

    def __str__(self) -> str:
        bound = " " if self.is_done else ">"
        figures = f"{bound}{self.wall_s:10.2f} {bound}{self.processor_s:10.2f} {bound}{self.memory_mib:10.0f}"
        return f"{self.step:26} {figures}"


def main() -> None:
    """Make the run folder unless it exists, measure each step, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000, help="number of records of a new folder")
    parser.add_argument("--run-folder", type=Path, help="keep the folder here, or use the one that exists")
    parser.add_argument("--journal", choices=("trials", "params"), default="trials", help="lines of a new journal")
    parser.add_argument("--asks", type=int, default=20, help="trials of the loop")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds after which a step is killed")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = options.run_folder or Path(place) / "new" / NAME
        if not folder.exists():
            make_run_folder(folder, options.records, journal=options.journal)
        count = len((folder / "records.jsonl").read_text().splitlines())
        print(f"{count} records\n\n{'step':26} {'seconds':>11} {'processor':>11} {'MiB':>11}")
        costs = []
        loop_file = Path(place) / "loop.json"
        for step, command in [*steps(count), ("asks and trials", [*LOOP, str(options.asks), str(loop_file)])]:
            costs.append(measure_step(step, command, folder, Path(place) / "copy", limit_s=options.limit))
            print(costs[-1], flush=True)
        loop = json.loads(loop_file.read_text()) if loop_file.exists() else {}
        loop |= {f"nas report {kind}": getattr(costs[2], name) for kind, name in TIMES.items()}
        print_bars(loop, memory_mib=costs[-1].memory_mib)
    if options.json:
        figures = {"records": count, "steps": [asdict(cost) for cost in costs], "loop": loop}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def print_bars(figures: dict[str, float], *, memory_mib: float) -> None:
    """Print each figure beside its bar.

    Args:
        figures: seconds by name and kind of time.
        memory_mib: peak memory of the search.
    """
    print(f"\n{'figure':26} {'seconds':>11} {'processor':>11} {'bar':>11}")
    for name, bar in BARS.items():
        wall_s, processor_s = (figures.get(f"{name} {kind}", float("nan")) for kind in TIMES)
        print(f"{name:26} {wall_s:11.3f} {processor_s:11.3f} {bar:11.2f}  {'kept' if processor_s <= bar else 'missed'}")
    verdict = "kept" if memory_mib <= MEMORY_BAR_MIB else "missed"
    print(f"{'peak memory, MiB':26} {memory_mib:11.0f} {'':11} {MEMORY_BAR_MIB:11.0f}  {verdict}")


def steps(count: int) -> Iterator[tuple[str, list[str]]]:
    """Steps by name, each with its command; RUN stands for the run folder, RUNS for the folder above it."""
    nas = [sys.executable, "-m", "nas"]
    yield "nas --help", [*nas, "--help"]
    yield "load_run, front, records", [sys.executable, "-c", READ, "RUN"]
    yield "nas report", [*nas, "report", "RUN"]
    yield "nas pick", [*nas, "pick", "RUN"]
    yield "resume, no trials left", [*nas, *SEARCH, "--runs", "RUNS", "--trials", str(count)]
    yield "resume, one more trial", [*nas, *SEARCH, "--runs", "RUNS", "--trials", str(count + 1)]


def measure_step(step: str, command: list[str], folder: Path, runs: Path, *, limit_s: float) -> StepCost:
    """Cost of a command on a copy of the run folder below `runs`.

    Raises:
        SystemExit: the command fails.
    """
    shutil.copytree(folder, runs / NAME)
    places = {"RUN": str(runs / NAME), "RUNS": str(runs)}
    words = [places.get(word, word) for word in command]
    begin = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        status, processor_s, memory_mib = _wait(process.pid, until=begin + limit_s)
        wall_s, is_done = time.perf_counter() - begin, not os.WIFSIGNALED(status)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        if is_done and process.returncode:
            raise SystemExit(f"{step} failed:\n{output.read().decode(errors='replace')}")
    shutil.rmtree(runs)
    return StepCost(step=step, wall_s=wall_s, processor_s=processor_s, memory_mib=memory_mib, is_done=is_done)


def _wait(pid: int, *, until: float) -> tuple[int, float, float]:
    """Exit status, processor seconds and peak memory in MiB of a child that leads its process group.

    The group is killed at the time `until`.
    """
    status, peak, is_late = None, 0.0, False
    while status is None:
        peak = max(peak, _peak_mib(pid))
        if not is_late and time.perf_counter() > until:
            is_late = True
            os.killpg(pid, signal.SIGKILL)
        done, wait_status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            status = wait_status
        else:
            time.sleep(0.01)
    return status, usage.ru_utime + usage.ru_stime, peak


def _peak_mib(pid: int) -> float:
    """Peak resident memory of a process so far, from /proc; 0 once it has ended.

    The figure of `os.wait4` is unusable: it starts from the memory of the parent.
    """
    match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(match[1]) / 1024 if match else 0.0


def make_run_folder(folder: Path, count: int, *, journal: str) -> None:
    """Make a run folder with `count` records, and `journal` lines: of `trials` or `params`."""
    with tempfile.TemporaryDirectory() as place:
        runs = Path(place)
        command = [sys.executable, "-m", "nas", *SEARCH, "--runs", str(runs), "--trials", str(TEMPLATE_TRIALS)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        _fill(runs / NAME, count, journal=journal)
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(runs / NAME, folder)


class _QuickJournal(JournalFileBackend):
    """Journal that leaves the time of writing to the system."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        with Path(self._file_path).open("a") as file:
            file.writelines(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)


def _fill(folder: Path, count: int, *, journal: str) -> None:
    """Add records and trials to a template until there are `count`."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = JournalStorage(_QuickJournal(str(folder / "journal.log")))
    study = optuna.load_study(study_name=NAME, storage=storage)
    trials = study.get_trials()
    for _ in [t for t in trials if t.state == TrialState.WAITING]:  # known good nets, which would be proposed next
        study.tell(study.ask(), state=TrialState.FAIL)
    records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    template, rung_lines = records[0], list[dict[str, Any]]()
    for number, configuration, candidate in _candidates(trials[0].distributions, first=len(trials)):
        if len(records) == count:
            break
        records.append(record := synthetic_record(template, number, candidate))
        values = [record["score"]["accuracy"], record["latency"]["latency_ms"]]
        rung_lines.append({"key": record["key"], "rung": 1, "values": values})
        _write_trial(study, record, configuration, trials[0].distributions, whole=journal == "trials")
    with (folder / "records.jsonl").open("w") as file:
        file.writelines(json.dumps(record, separators=(",", ":")) + "\n" for record in _dated(records))
    shutil.rmtree(folder / "clocks")
    (folder / "clocks").mkdir()
    span = [BEGUN.timestamp(), (BEGUN + len(records) * APART).timestamp()]
    (folder / "clocks" / "0-0.json").write_text(json.dumps(span))
    with (folder / "rungs.jsonl").open("a") as file:
        file.writelines(json.dumps(rung_line) + "\n" for rung_line in rung_lines)


def _dated(records: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The records, finished one after the other: forecasts per hour depend on their pace."""
    for index, record in enumerate(records, start=1):
        yield record | {"finished": (BEGUN + index * APART).isoformat(timespec="seconds")}


def _candidates(
    distributions: dict[str, BaseDistribution], *, first: int
) -> Iterator[tuple[int, dict[str, Any], dict[str, Any]]]:
    """Numbers from `first` on, configurations, and their candidates as JSON objects, without duplicates."""
    rng, keys, number = np.random.default_rng(0), set[str](), first
    with tempfile.TemporaryDirectory() as folder:
        parts = SearchParts("plain", "jetson", "prune_structured,quantize", "screened", Path(folder), limit_ms=5.0)
        while True:
            configuration = {name: _drawn(distribution, rng) for name, distribution in distributions.items()}
            candidate = parts.compression.decode(parts.space, configuration)
            if candidate.key not in keys:
                keys.add(candidate.key)
                yield number, configuration, {"key": candidate.key, "candidate": json.loads(candidate.to_json())}
                number += 1


def _drawn(distribution: BaseDistribution, rng: np.random.Generator) -> Any:
    """A uniform random value."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(rng.integers(len(distribution.choices)))]
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    step = distribution.step or 1
    value = distribution.low + step * int(rng.integers(round((distribution.high - distribution.low) / step) + 1))
    return int(value) if isinstance(distribution, IntDistribution) else float(value)


def synthetic_record(template: dict[str, Any], number: int, candidate: dict[str, Any]) -> dict[str, Any]:
    """The template's record with another candidate and figures by a formula.

    Latency grows with accuracy, with noise. One record in ten violates a constraint.
    """
    rng = np.random.default_rng(number)
    width = sum(candidate["candidate"]["pruned"].values())
    latency = 0.05 + 0.001 * width * float(np.exp(rng.normal(0, 0.2)))
    accuracy = min(0.95, 0.15 + 0.08 * float(np.log2(width)) - 0.3 + float(rng.normal(0, 0.02)))
    is_infeasible = number % 10 == 0
    figures: dict[str, Any] = {
        "trial": number, "status": "infeasible" if is_infeasible else "complete",
        "reason": "made up" if is_infeasible else "",
        "violations": {"max_size": 0.1} if is_infeasible else {}, "size_bytes": 400 * width, "params": 100 * width,
        "nonzero_params": 100 * width, "macs": 10_000 * width,
        "latency": template["latency"] | {"latency_ms": latency, "low_ms": 0.6 * latency, "high_ms": 1.5 * latency},
        "score": template["score"] | {"accuracy": accuracy, "low": accuracy - 0.05, "high": accuracy + 0.05},
    }  # fmt: skip
    return template | candidate | figures


def _write_trial(
    study: optuna.Study,
    record: dict[str, Any],
    configuration: dict[str, Any],
    distributions: dict[str, BaseDistribution],
    *,
    whole: bool,
) -> None:
    """Write the finished trial of a record, with all params in one line or each in its own."""
    storage = study._storage
    begun = create_trial(
        state=TrialState.RUNNING, params=configuration if whole else {}, distributions=distributions if whole else {}
    )
    trial_id = storage.create_new_trial(study._study_id, begun)
    for name, value in {} if whole else configuration.items():
        internal = distributions[name].to_internal_repr(value)
        storage.set_trial_param(trial_id, name, internal, distributions[name])
    values = [record["score"]["accuracy"], record["latency"]["latency_ms"]]
    attributes = {"host": "many", "key": record["key"], "status": record["status"], "epochs": record["epochs"]}
    attributes |= {"latency_kind": "predicted", "macs": record["macs"], "model": record["model"]}
    attributes |= {"look": [values[0], None], "look_only": False}
    for name, value in attributes.items():
        storage.set_trial_user_attr(trial_id, name, value)
    for name, violation in record["violations"].items():
        begun.set_constraint(name, violation)
    for name, value in begun.system_attrs.items():
        storage.set_trial_system_attr(trial_id, name, value)
    storage.set_trial_state_values(trial_id, TrialState.COMPLETE, values)


if __name__ == "__main__":
    main()
