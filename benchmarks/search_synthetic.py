"""How fast a sampler finds the front of a synthetic problem of the shape of a real search, benchmarks/_synthetic.py.

    python -m benchmarks.search_synthetic --sampler NAME[,NAME...] --trials 200 --seeds 4 --json OUT

Each seed draws a problem of its own. Samplers are told accuracy with noise; scores are computed without: the share of
the hypervolume that a noise-free search of 100,000 evaluations found, after 25, 50, 100, 200 and 300 trials. The
reference point is the lowest accuracy and the median latency of 4,000 random points. Names are those of search_nb201.
"""

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from benchmarks import _synthetic
from benchmarks._proposers import proposers
from benchmarks.search_nb201 import BUDGETS, mean


def replay(problem: _synthetic.Problem, sampler: optuna.samplers.BaseSampler, trials: int, seed: int) -> dict[str, Any]:
    """Figures of one search."""
    noise = np.random.default_rng([seed, 11])
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    truth, seconds = [], []
    for _ in range(trials):
        started = time.perf_counter()
        trial = study.ask(_synthetic.SPACE)
        seconds.append(time.perf_counter() - started)
        accuracy, latency = problem.values([trial.params])[0]
        study.tell(trial, [float(accuracy + noise.normal(0, _synthetic.NOISE)), float(latency)])
        truth.append((accuracy, latency))
    picked = [tuple(t.params.values()) for t in study.get_trials(deepcopy=False)]
    return {
        "share": {b: problem.share(np.array(truth[:b])) for b in BUDGETS if b <= trials},
        "duplicates": 1 - len(set(picked)) / trials,
        "seconds_per_trial": float(np.mean(seconds)),
        "slowest_seconds": float(np.max(seconds)),
    }


def main() -> None:
    """Search, print a table, write the JSON file if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sampler", default="screened", help=", ".join(proposers(_synthetic.SPACE)))
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    problems = [_synthetic.Problem.draw(seed) for seed in range(args.seeds)]
    result: dict[str, Any] = {
        "trials": args.trials,
        "seeds": args.seeds,
        "genes": len(_synthetic.SPACE),
        "samplers": {},
    }
    print(f"{len(_synthetic.SPACE)} genes: share of the reference hypervolume, mean of {args.seeds} problems")
    print(
        f"{'sampler':18}" + "".join(f"{'@' + str(b):>8}" for b in BUDGETS if b <= args.trials) + "  repeats  ms/trial"
    )
    for name in args.sampler.split(","):
        runs = []
        for seed, problem in enumerate(problems):
            makers = proposers(_synthetic.SPACE, **problem.known())
            if name not in makers:
                parser.error(f"--sampler must name some of {', '.join(makers)}, but got {name}")
            runs.append(replay(problem, makers[name](seed), args.trials, seed))
        means = mean(runs)
        result["samplers"][name] = {"mean": means, "runs": runs}
        shares = "".join(f"{v:8.4f}" for v in means["share"].values())
        print(f"{name:18}{shares}  {means['duplicates']:7.1%}  {means['seconds_per_trial'] * 1e3:8.1f}", flush=True)
        if args.json:
            args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
