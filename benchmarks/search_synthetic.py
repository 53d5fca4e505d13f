"""Sample efficiency of samplers on a synthetic problem of the shape of a real search, benchmarks/_synthetic.py.

    python -m benchmarks.search_synthetic --sampler NAME[,NAME...] --trials 300 --seeds 8 --json OUT

Each seed draws a problem. Samplers observe accuracy with noise; scores are noise-free. A score is the hypervolume after
25, 50, 100, 200 and 300 trials, as a share of that which a noise-free search of 100,000 evaluations found. The
reference point is the lowest accuracy and the median latency of 4,000 random points. Samplers are named as in
search_nb201.
"""

from functools import cache
from typing import Any

import numpy as np

from benchmarks import _synthetic
from benchmarks._replays import (
    TRIAL_BUDGETS,
    Benchmark,
    Configuration,
    compare_samplers,
    hypervolume_curve,
    make_parser,
    run_replay,
)
from benchmarks._samplers import sampler_factories

drawn_problem = cache(_synthetic.SyntheticProblem.draw)


def replay(name: str, seed: int, *, trials: int, limit_s: float | None) -> dict[str, Any]:
    """Figures of one search on the problem of a seed."""
    problem = drawn_problem(seed)
    noise = np.random.default_rng([seed, 11])

    def evaluate(configuration: Configuration) -> tuple[list[float], None]:
        accuracy, latency = problem.values([configuration])[0].tolist()
        return [accuracy + float(noise.normal(0, _synthetic.ACCURACY_NOISE_STD)), latency], None

    sampler = sampler_factories(_synthetic.SPACE, **problem.sampler_context())[name](seed)
    search = run_replay(sampler, _synthetic.SPACE, evaluate, trials=trials, limit_s=limit_s)
    shares = hypervolume_curve(problem.values(search.configurations), problem.hypervolume_share)
    return {
        "share": {str(b): shares[b - 1] for b in TRIAL_BUDGETS if b <= len(shares)},
        **search.summary,
        "curve": [round(share, 5) for share in shares],
    }


def main() -> None:
    """Search, print the table, and write the JSON file if requested."""
    names = list(sampler_factories(_synthetic.SPACE))
    options = make_parser(__doc__ or "", names, trials=300, seeds=8).parse_args()
    compare_samplers(
        Benchmark(
            title=f"{len(_synthetic.SPACE)} genes: share of the best known volume, mean of {options.seeds} problems",
            facts={"genes": len(_synthetic.SPACE), "noise": _synthetic.ACCURACY_NOISE_STD, "trials": options.trials},
            samplers=names,
            make=lambda name, seed: sampler_factories(_synthetic.SPACE)[name](seed),
            replay=lambda name, seed: replay(name, seed, trials=options.trials, limit_s=options.time_limit),
            columns=(
                (("duplicates",), "duplicates", "12.1%"),
                (("seconds_per_trial",), "s/trial", "12.4f"),
                (("slowest_seconds",), "slowest", "12.4f"),
            ),
        ),
        options,
    )


if __name__ == "__main__":
    main()
