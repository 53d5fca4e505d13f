"""How fast a sampler finds the front of a NAS-Bench-201 table whose true front is known.

    python -m benchmarks.search_nb201 --table FILE --accuracy c10_test_200 --proxy-accuracy c10_val_12 \
        --latency jetson_tx2_fp32_ms --sampler NAME[,NAME...] --trials 300 --seeds 8 --json OUT

Prints and writes, for each sampler, the mean over seeds (and each seed) of the share of the true hypervolume after 25,
50, 100, 200 and 300 evaluations. The reference point is (lowest value of the accuracy column, highest value of the
latency column) among connected cells that have both; volumes are on the columns' own scales. An evaluation is a trial:
repeats and cells without a path count. `share_distinct` counts each distinct cell once, as a search does that answers
repeats from its records. Regret is the best accuracy under a limit that the table has, less the best found so far, in
the column's unit; the limits are the 10, 25 and 50 % quantiles of the latency of connected cells. The columns are
told to the sampler as they are, without noise; a cell without a path is told as infeasible.

The samplers "screened..." may look latency and connectedness up before they ask, as a search does that measures
untrained nets; "screened-blind" may not. `--multi-fidelity` lets a first look at the proxy accuracy decide who is
trained in full, see benchmarks/_fidelity.py; costs are then counted in full trainings.
"""

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from benchmarks import _nb201
from benchmarks._proposers import proposers

BUDGETS = (25, 50, 100, 200, 300)
QUANTILES = (0.10, 0.25, 0.50)


def replay(table: _nb201.Table, sampler: optuna.samplers.BaseSampler, trials: int) -> tuple[list[int], list[float]]:
    """Cells in the order asked, and seconds of each ask."""
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    asked, seconds = [], []
    for _ in range(trials):
        started = time.perf_counter()
        trial = study.ask(_nb201.SPACE)
        seconds.append(time.perf_counter() - started)
        cell = _nb201.code(trial.params)
        feasible = bool(table.feasible[cell])
        trial.set_constraint("connected", 0.0 if feasible else 1.0)
        study.tell(trial, list(table.values[cell] if feasible else table.reference))
        asked.append(cell)
    return asked, seconds


def scores(table: _nb201.Table, asked: list[int], seconds: list[float]) -> dict[str, Any]:
    """Figures of one replay, as the module's docstring says."""
    budgets = [b for b in BUDGETS if b <= len(asked)]
    distinct = list(dict.fromkeys(asked))
    limits = np.quantile(table.values[table.feasible, 1], QUANTILES)
    return {
        "share": {b: table.share(asked[:b]) for b in budgets},
        "share_distinct": {b: table.share(distinct[:b]) for b in budgets if b <= len(distinct)},
        "regret": {
            f"{q:.0%}": {b: regret(table, asked[:b], x) for b in budgets}
            for q, x in zip(QUANTILES, limits, strict=True)
        },
        "curve": [round(table.share(asked[: i + 1]), 5) for i in range(len(asked))],
        "duplicates": 1 - len(distinct) / len(asked),
        "infeasible": float(np.mean(~table.feasible[asked])),
        "seconds_per_trial": float(np.mean(seconds)),
    }


def regret(table: _nb201.Table, asked: list[int], limit: float) -> float:
    """Best accuracy within the limit less the best asked; the whole range if none asked is within."""
    within = np.where(table.values[:, 1] <= limit, table.values[:, 0], np.nan)
    found = within[asked]
    best = np.nanmax(found) if np.isfinite(found).any() else table.reference[0]
    return float(np.nanmax(within) - best)


def mean(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds of all figures; of a figure that some seed lacks, none."""
    found: dict[str, Any] = {}
    for key, first in runs[0].items():
        values = [run.get(key) for run in runs]
        if isinstance(first, dict):
            found[key] = mean([v or {} for v in values])
        elif isinstance(first, list):
            found[key] = np.mean(values, axis=0).round(5).tolist()
        elif all(v is not None for v in values):
            found[key] = float(np.mean(values))
    return found


def main() -> None:
    """Replay, print a table, write the JSON file if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--accuracy", required=True)
    parser.add_argument("--proxy-accuracy")
    parser.add_argument("--latency", required=True)
    parser.add_argument("--sampler", default="screened", help=", ".join(proposers(_nb201.SPACE)))
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    table = _nb201.read(args.table, args.accuracy, args.latency, args.proxy_accuracy)
    makers = proposers(_nb201.SPACE, **_nb201.known(table))
    unknown = [n for n in args.sampler.split(",") if n not in makers]
    if unknown:
        parser.error(f"--sampler must name some of {', '.join(makers)}, but got {', '.join(unknown)}")
    result: dict[str, Any] = {
        "table": args.table.name, "accuracy": args.accuracy, "latency": args.latency, "trials": args.trials,
        "seeds": args.seeds, "reference": table.reference, "hypervolume": table.volume, "samplers": {},
    }  # fmt: skip
    print(f"{args.accuracy} and {args.latency}: share of the true hypervolume, mean of {args.seeds} seeds")
    print(
        f"{'sampler':18}" + "".join(f"{'@' + str(b):>8}" for b in BUDGETS if b <= args.trials) + "  repeats  ms/trial"
    )
    for name in args.sampler.split(","):
        runs = [scores(table, *replay(table, makers[name](seed), args.trials)) for seed in range(args.seeds)]
        means = mean(runs)
        result["samplers"][name] = {"mean": means, "runs": runs}
        shares = "".join(f"{v:8.4f}" for v in means["share"].values())
        print(f"{name:18}{shares}  {means['duplicates']:7.1%}  {means['seconds_per_trial'] * 1e3:8.1f}", flush=True)
        if args.json:
            args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
