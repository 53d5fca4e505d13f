"""Searches through the command line, and the figures of the run folders that they leave.

The only module of these tests that knows the layout of a run folder and the names in its records. Where a restructuring
renames them, change it here and leave the recorded data as they are.
"""

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(__file__).parent / "data"
SMALL_RUN = DATA / "small-run"
SMALL_SEARCH = (
    "search --target jetson --space plain --max-size 18kB --epochs 1 --rungs 0.5,1 --verify 2 --final-epochs 1 "
    "--threads 1 --workers 1 --seed 4 --data-option n=200 --data-option size=32 --name small-run --runs runs"
)
"""The command that made `SMALL_RUN`, but for its number of trials."""
SMALL_TRIALS = 10
UNCHANGED = ("config.toml", "records.jsonl", "journal.log")
"""Files of `SMALL_RUN` whose SHA-256, one after the other, is recorded beside it."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

Figures = dict[str, Any]


def nas(command: str, *, place: Path) -> str:
    """What `python -m nas` prints in a process of its own with one thread, at work in `place` and with its own cache.

    Raises:
        AssertionError: it fails; the message is its output.
    """
    return python("-m", "nas", *shlex.split(command), place=place)


def python(*arguments: str, place: Path) -> str:
    """The same for any command of Python."""
    environment = os.environ | ONE_THREAD | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(place / "cache")}
    ran = subprocess.run(
        [sys.executable, *arguments], cwd=place, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def copy_of_small_run(place: Path) -> Path:
    """A copy of the recorded run folder where `SMALL_SEARCH`, called in `place`, finds it."""
    return Path(shutil.copytree(SMALL_RUN, place / "runs" / SMALL_RUN.name))


def give_executions(folder: Path, executions: Mapping[str, Any]) -> None:
    """Lay down in which form each candidate is trained.

    A search chooses it by timing, and keeps the choice in a file for each candidate, which goes before a new timing.
    """
    (folder / "checkpoints").mkdir(parents=True)
    for key, execution in executions.items():
        (folder / "checkpoints" / f"{key}-execution.json").write_text(json.dumps(execution))


def lines_of(folder: Path) -> list[str]:
    """The lines of the records."""
    return (folder / "records.jsonl").read_text().splitlines()


def figures(folder: Path) -> list[Figures]:
    """What has to be equal of each record of a run: all figures but those that a clock gave, and no wording."""
    return [_figures(folder, json.loads(line)) for line in lines_of(folder)]


def untrained(found: Figures) -> Figures:
    """The figures of a record that depend on no weight and on no library."""
    return {name: found[name] for name in ("trial", "phase", "key", "params", "macs", "latency_ms")}


def _figures(folder: Path, record: dict[str, Any]) -> Figures:
    plain = (
        "trial", "phase", "key", "status", "seed", "rung", "epochs", "params", "nonzero_params", "macs", "size_bytes",
        "packed_bytes",
    )  # fmt: skip
    return {
        **{name: record[name] for name in plain},
        **{name: record[name] and record[name]["confusion"] for name in ("score", "test", "before")},
        "accuracy": record["score"] and record["score"]["accuracy"],
        "latency_ms": record["latency"] and record["latency"]["latency_ms"],
        "speedup": record["gain"] and record["gain"]["speedup"],
        "violations": sorted(record["violations"].values()),
        "sha256": _sha256(folder, record),
    }


def _sha256(folder: Path, record: dict[str, Any]) -> str:
    """Of the record's file as it lies there; empty where it has none.

    Raises:
        AssertionError: the record tells another one.
    """
    if not record["model"]:
        return ""
    found = hashlib.sha256((folder / record["model"]).read_bytes()).hexdigest()
    assert found == record["sha256"], f"{record['model']} is not the file that its record tells of"
    return found
