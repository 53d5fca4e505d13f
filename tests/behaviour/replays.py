"""Replays of the default sampler on tables: what it asks, in order, and the share of the true hypervolume after each.

    python -m tests.behaviour.replays jetson_tx2

Prints one replay as JSON. The only module of these tests that reaches into the benchmarks. A process of its own, so
that its sums run in one thread.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna

from benchmarks import _candidate_table, _nb201
from benchmarks._replays import hypervolume_curve, run_replay
from benchmarks._samplers import sampler_factories
from tests.behaviour.commands import ROOT, python

SAMPLER, SEED = "screened", 0
NB201_TRIALS, TABLE_TRIALS = 50, 30
Replay = dict[str, Any]


def nb201(latency: str) -> Replay:
    """Cells of NAS-Bench-201 by number 0..15624, on CIFAR-10 and this column of latencies."""
    table = _nb201.read_table(nb201_file(), "c10_test_200", latency)
    sampler = sampler_factories(_nb201.SPACE, **_nb201.sampler_context(table))[SAMPLER](SEED)

    def answer(picked: Any) -> tuple[Any, bool]:
        cell = _nb201.cell_index(picked)
        feasible = bool(table.feasible[cell])
        return (table.values[cell].tolist() if feasible else table.reference), feasible

    picks = run_replay(sampler, _nb201.SPACE, answer, trials=NB201_TRIALS, limit_s=None).configurations
    asked = [_nb201.cell_index(picked) for picked in picks]
    return {"asked": asked, "share": hypervolume_curve(table.values[asked], table.hypervolume_share_of)}


def own_nets() -> Replay:
    """Rows by number of the table of own nets that lies in benchmarks/data."""
    rows = _candidate_table.read_table(ROOT / "benchmarks" / "data" / "fer2013_plain.csv", "accuracy", "latency_ms")
    sampler = _candidate_table.NearestRowSampler(
        sampler_factories(rows.space, **rows.sampler_context())[SAMPLER](SEED), rows
    )

    def answer(picked: Any) -> tuple[Any, None]:
        return rows.values[rows.nearest([picked])[0]].tolist(), None

    asked = rows.nearest(run_replay(sampler, rows.space, answer, trials=TABLE_TRIALS, limit_s=None).configurations)
    return {"asked": asked, "share": hypervolume_curve(rows.values[asked], rows.hypervolume_share_of)}


REPLAYS: dict[str, Callable[[], Replay]] = {
    "jetson_tx2": lambda: nb201("jetson_tx2_fp32_ms"),
    "jetson_nano": lambda: nb201("jetson_nano_fp32_ms"),
    "own_nets": own_nets,
}


def in_own_process(name: str) -> Replay:
    """A replay in a process of its own, with one thread."""
    found: Replay = json.loads(python("-m", "tests.behaviour.replays", name, place=ROOT))
    return found


def nb201_file() -> Path:
    """The table of NAS-Bench-201, below $NAS_SHARED or `shared/` beside the checkout; it may be absent."""
    root = Path(os.environ.get("NAS_SHARED", ROOT.parent / "shared"))
    file = Path("nb201") / "nb201_cifar10.csv.gz"
    return next((folder / file for folder in (root / "data", root) if (folder / file).exists()), root / file)


def main() -> None:
    """Print a replay."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("replay", choices=list(REPLAYS))
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    json.dump(REPLAYS[parser.parse_args().replay](), sys.stdout)


if __name__ == "__main__":
    main()
