"""Validation of patience and of improvement forecasts on the curves of finished searches.

    python -m benchmarks.convergence --curves NB201.json [...] --runs runs/fer2013-cpu [...] --horizon 20

Curves are those that `python -m benchmarks.search_nb201 ... --json` wrote, one per sampler and seed, and those of run
folders. For each sampler, over its curves, the table states:

- `converged`, `after`: how many curves converged by the rule of `--patience`, and after how many candidates;
- `share`: the share of the final hypervolume at that point;
- `gain`, `most`: the improvement by the next `horizon` candidates, mean and maximum (the rule promises less than 1 % in
  97.5 of 100 cases);
- `inside`: how often the actual improvement lay in the forecast interval (nominally 95 %), at every tenth candidate
  from 20 on;
- `forecast`, `actual`: mean forecast and mean actual improvement at those candidates.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nas.results.convergence import forecast_improvement, has_converged
from nas.results.hypervolume_curve import hypervolume_curve
from nas.results.run_folder import RunFolder

Curve = Sequence[float]


def stops(curve: Curve, horizon: int) -> int | None:
    """Number of candidates after which patience ends the search, given `horizon` more to come; None if never."""
    return next((n for n in range(horizon, len(curve) - horizon) if has_converged(curve[:n], horizon)), None)


def forecasts(curve: Curve, horizon: int) -> list[tuple[bool, float, float]]:
    """At every tenth candidate: whether the improvement is in the interval, its forecast, and the actual one."""
    rows = []
    for n in range(20, len(curve) - horizon, 10):
        forecast = forecast_improvement(curve[:n], horizon)
        if forecast is not None:
            actual = curve[n + horizon - 1] / curve[n - 1] - 1
            rows.append(
                (
                    forecast.hypervolume_gain.low - 1e-9 <= actual <= forecast.hypervolume_gain.high + 1e-9,
                    forecast.hypervolume_gain.mean,
                    actual,
                )
            )
    return rows


def row(name: str, curves: Sequence[Curve], horizon: int) -> str:
    """One line of the table."""
    stop_points = [stops(curve, horizon) for curve in curves]
    converged = [(n, curve) for n, curve in zip(stop_points, curves, strict=True) if n is not None]
    improvements = [curve[n + horizon - 1] / curve[n - 1] - 1 for n, curve in converged]
    forecast_rows = [f for curve in curves for f in forecasts(curve, horizon)]
    inside, expected, actual = np.mean(forecast_rows, axis=0) if forecast_rows else (np.nan, np.nan, np.nan)
    stopped = f"{len(converged)} of {len(curves)}"
    if not converged:
        return f"{name:24}{stopped:>10}{'':34}{inside:8.0%}{expected:10.2%}{actual:8.2%}"
    point = f"{np.mean([n for n, _ in converged]):8.0f}{np.mean([c[n - 1] / c[-1] for n, c in converged]):9.2%}"
    gain = f"{np.mean(improvements):9.2%}{max(improvements):8.2%}"
    return f"{name:24}{stopped:>10}{point}{gain}{inside:8.0%}{expected:10.2%}{actual:8.2%}"


def main() -> None:
    """Read the curves and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, nargs="*", default=[])
    parser.add_argument("--runs", type=Path, nargs="*", default=[])
    parser.add_argument("--horizon", type=int, default=20)
    args = parser.parse_args()
    print(
        f"{'':24}{'converged':>10}{'after':>8}{'share':>9}{'gain':>9}{'most':>8}{'inside':>8}{'forecast':>10}"
        f"{'actual':>8}"
    )
    for file in args.curves:
        for name, sampler in json.loads(file.read_text())["samplers"].items():
            print(row(name, [run["curve"] for run in sampler["runs"]], args.horizon))
    for path in args.runs:
        folder = RunFolder.open_existing(path)
        print(row(path.name, [hypervolume_curve(folder.records(), folder.config.search.objectives)], args.horizon))


if __name__ == "__main__":
    main()
