"""Samplers against each other by whole searches of one budget: front against front.

    for sampler in screened tpe nsga2; do for seed in 0 1 2; do
      nas search --space plain --target cpu --dataset fer2013 --data fer2013.csv --sampler $sampler --seed $seed \\
        --max-latency 0.12ms --epochs 0.5 --rungs 1 --verify 0 --budget 15m --threads 1 --name cmp-$sampler-$seed
    done; done
    python -m benchmarks.compare_runs runs/cmp-* [--json OUT.json] [--markdown]

Hypervolume of what was found after a quarter, half, three quarters and all of the budget, above chance and below the
latency limit, as a share of that of all runs' candidates together; mean and range over the seeds. `beaten` is the share
of the front's members that a member of another sampler's fronts, any seed, is better than in both. Accuracy is that of
the search, with its noise: a difference within the range over the seeds is none.
"""

import argparse
import json
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import numpy as np

from nas.pareto import hypervolume, non_dominated
from nas.results.run_folder import RunFolder

SHARES = (0.25, 0.5, 0.75, 1.0)
MAXIMIZE = [True, False]


class Found(NamedTuple):
    """A candidate that was trained: seconds since the run's first answer, accuracy 0..1, latency in ms."""

    at_s: float
    accuracy: float
    latency_ms: float


class Row(NamedTuple):
    """One run: candidates asked and trained, shares of the hypervolume 0..1 at `SHARES`, share of its front beaten."""

    seed: int
    asked: int
    trained: int
    shares: tuple[float, ...]
    beaten: float


def found_by(folder: RunFolder) -> tuple[list[Found], int]:
    """What a run has trained, in order, and how many candidates it asked for in all."""
    records = [r for r in folder.records() if r.phase == "search"]
    ends = [datetime.fromisoformat(r.finished) for r in records]
    spent = [sum(r.seconds.values()) for r in records]
    begin = min(end.timestamp() - s for end, s in zip(ends, spent, strict=True))
    return [
        Found(end.timestamp() - begin, r.objective("accuracy") or 0.0, r.latency.latency_ms)
        for r, end in zip(records, ends, strict=True)
        if r.status == "complete" and r.latency is not None
    ], len(records)


def main() -> None:
    """Print the table, write the JSON file if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="+", help="folders of searches that differ in sampler and seed only")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    folders = [RunFolder.open_existing(path) for path in args.run]
    limits = {f.config.limits.max_latency for f in folders}
    budgets = {f.config.search.budget for f in folders}
    if len(limits) != 1 or len(budgets) != 1 or None in limits | budgets:
        raise SystemExit("runs must share one --max-latency and one --budget; search them with the same flags")
    limit, budget = float(limits.pop() or 0), float(budgets.pop() or 0)
    classes = len(json.loads((folders[0].path / "data.json").read_text()).get("classes", ())) or 7

    def volume(points: list[Found]) -> float:
        return hypervolume(np.array([[p.accuracy, p.latency_ms] for p in points]), [1 / classes, limit], MAXIMIZE)

    runs = {(f.config.search.sampler, f.config.run.seed): found_by(f) for f in folders}
    whole = volume([p for points, _ in runs.values() for p in points])
    fronts = {key: _front(points) for key, (points, _) in runs.items()}
    rows: dict[str, list[Row]] = defaultdict(list)
    for (sampler, seed), (points, asked) in sorted(runs.items()):
        shares = tuple(volume([p for p in points if p.at_s <= share * budget]) / whole for share in SHARES)
        others = [p for (name, _), front in fronts.items() if name != sampler for p in front]
        beaten = mean(any(_better(o, p) for o in others) for p in fronts[sampler, seed])
        rows[sampler].append(Row(seed, asked, len(points), shares, beaten))
    heads = ["sampler", "seeds", "asked", "trained", *(f"{share:.0%} of the budget" for share in SHARES), "beaten"]
    lines = [_cells(name, found) for name, found in sorted(rows.items(), key=lambda item: -_last(item[1]))]
    if args.markdown:
        print("\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *lines)))
    else:
        widths = [max(len(line[i]) for line in (heads, *lines)) for i in range(len(heads))]
        for line in (heads, *lines):
            print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))
    if args.json:
        told = {name: [row._asdict() for row in found] for name, found in rows.items()}
        args.json.write_text(json.dumps(told, indent=1) + "\n")


def _cells(sampler: str, found: list[Row]) -> list[str]:
    columns = zip(*(row.shares for row in found), strict=True)
    counts = [f"{mean(row.asked for row in found):.0f}", f"{mean(row.trained for row in found):.0f}"]
    shares = [f"{mean(c):.3f} ({min(c):.3f}-{max(c):.3f})" for c in columns]
    return [sampler, str(len(found)), *counts, *shares, f"{mean(row.beaten for row in found):.0%}"]


def _last(found: list[Row]) -> float:
    return mean(row.shares[-1] for row in found)


def _front(points: list[Found]) -> list[Found]:
    keep = non_dominated([[p.accuracy, p.latency_ms] for p in points], MAXIMIZE)
    return [p for p, stays in zip(points, keep, strict=True) if stays]


def _better(one: Found, other: Found) -> bool:
    return one.accuracy >= other.accuracy and one.latency_ms <= other.latency_ms and one[1:] != other[1:]


if __name__ == "__main__":
    main()
