"""Does a search that is called flat gain little afterwards, and do forecasts of gain come true?

    python -m benchmarks.convergence --curves NB201.json [...] --runs runs/fer2013-cpu [...] --horizon 20

Curves are those that `python -m benchmarks.search_nb201 ... --json` wrote, one for each sampler and seed, and those of
run folders. For each sampler, over its curves: how many are called flat and after how many candidates, the share of the
final hypervolume they have then, and what the next `horizon` candidates really added (mean and most; the promise is
less than 1 % in 97.5 of 100 cases). Further, at every tenth candidate from 20 on: how often the gain that came lies in
the interval that was forecast (95 % is meant), and the forecast's mean beside the mean of what came.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nas.results.convergence import forecast_improvement, has_converged
from nas.results.front import hypervolume_curve
from nas.results.run_folder import RunFolder

Curve = Sequence[float]


def stops(curve: Curve, horizon: int) -> int | None:
    """Candidates after which the search would have ended, if there were as many to come; None if never."""
    return next((n for n in range(horizon, len(curve) - horizon) if has_converged(curve[:n], horizon)), None)


def forecasts(curve: Curve, horizon: int) -> list[tuple[bool, float, float]]:
    """At every tenth candidate: whether the gain is within the interval, what was forecast, and what came."""
    found = []
    for n in range(20, len(curve) - horizon, 10):
        ahead = forecast_improvement(curve[:n], horizon)
        if ahead is not None:
            came = curve[n + horizon - 1] / curve[n - 1] - 1
            found.append(
                (
                    ahead.hypervolume_gain.low - 1e-9 <= came <= ahead.hypervolume_gain.high + 1e-9,
                    ahead.hypervolume_gain.mean,
                    came,
                )
            )
    return found


def row(name: str, curves: Sequence[Curve], horizon: int) -> str:
    """One line of the table."""
    at = [stops(curve, horizon) for curve in curves]
    ended = [(n, curve) for n, curve in zip(at, curves, strict=True) if n is not None]
    later = [curve[n + horizon - 1] / curve[n - 1] - 1 for n, curve in ended]
    told = [f for curve in curves for f in forecasts(curve, horizon)]
    inside, expected, came = np.mean(told, axis=0) if told else (np.nan, np.nan, np.nan)
    stopped = f"{len(ended)} of {len(curves)}"
    if not ended:
        return f"{name:24}{stopped:>10}{'':34}{inside:8.0%}{expected:10.2%}{came:8.2%}"
    after = f"{np.mean([n for n, _ in ended]):8.0f}{np.mean([c[n - 1] / c[-1] for n, c in ended]):9.2%}"
    return (
        f"{name:24}{stopped:>10}{after}{np.mean(later):9.2%}{max(later):8.2%}{inside:8.0%}{expected:10.2%}{came:8.2%}"
    )


def main() -> None:
    """Read the curves and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, nargs="*", default=[])
    parser.add_argument("--runs", type=Path, nargs="*", default=[])
    parser.add_argument("--horizon", type=int, default=20)
    args = parser.parse_args()
    print(f"{'':24}{'flat':>10}{'after':>8}{'has':>9}{'then':>9}{'most':>8}{'inside':>8}{'forecast':>10}{'came':>8}")
    for file in args.curves:
        for name, found in json.loads(file.read_text())["samplers"].items():
            print(row(name, [run["curve"] for run in found["runs"]], args.horizon))
    for path in args.runs:
        folder = RunFolder.open_existing(path)
        print(row(path.name, [hypervolume_curve(folder.records(), folder.config.search.objectives)], args.horizon))


if __name__ == "__main__":
    main()
