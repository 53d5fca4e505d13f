"""Comparison of samplers by whole searches of one budget, front against front.

    for sampler in screened tpe nsga2; do for seed in 0 1 2; do
      nas search --space plain --target cpu --dataset fer2013 --data fer2013.csv --sampler $sampler --seed $seed \\
        --max-latency 0.12ms --epochs 0.5 --rungs 1 --verify 0 --budget 15m --threads 1 --name cmp-$sampler-$seed
    done; done
    python -m benchmarks.compare_runs runs/cmp-* [--json OUT.json] [--markdown]

The table states the hypervolume after a quarter, half, three quarters and all of the budget, with mean and range over
the seeds. Its reference point is chance accuracy and the latency limit, and it is a share of the hypervolume of all
runs' candidates together. `beaten` is the share of a run's front that some front of another sampler, of any seed,
dominates. Accuracy is the search's, with its noise: a difference within the range over the seeds is not significant.
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


class TrainedCandidate(NamedTuple):
    """A trained candidate: seconds since the run's first proposal, accuracy 0..1, latency in ms."""

    at_s: float
    accuracy: float
    latency_ms: float


class Row(NamedTuple):
    """One run: candidates proposed and trained, shares 0..1 of the hypervolume at `SHARES`, beaten share."""

    seed: int
    proposed: int
    trained: int
    shares: tuple[float, ...]
    beaten: float


def trained_candidates(folder: RunFolder) -> tuple[list[TrainedCandidate], int]:
    """The candidates that a run trained, in order, and the number that it proposed."""
    records = [r for r in folder.records() if r.phase == "search"]
    ends = [datetime.fromisoformat(r.finished) for r in records]
    spent = [sum(r.seconds.values()) for r in records]
    begin = min(end.timestamp() - s for end, s in zip(ends, spent, strict=True))
    return [
        TrainedCandidate(end.timestamp() - begin, r.objective("accuracy") or 0.0, r.latency.latency_ms)
        for r, end in zip(records, ends, strict=True)
        if r.status == "complete" and r.latency is not None
    ], len(records)


def main() -> None:
    """Print the table and write the JSON file if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="+", help="folders of searches that differ in sampler and seed only")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    folders = [RunFolder.open_existing(path) for path in args.run]
    limits = {f.config.limits.max_latency for f in folders}
    budgets = {f.config.search.budget for f in folders}
    if len(limits) != 1 or len(budgets) != 1 or None in limits | budgets:
        raise SystemExit("runs must share one --max-latency and one --budget; run the searches with the same options")
    limit, budget = float(limits.pop() or 0), float(budgets.pop() or 0)
    classes = len(json.loads((folders[0].path / "data.json").read_text()).get("classes", ())) or 7

    def volume(points: list[TrainedCandidate]) -> float:
        return hypervolume(np.array([[p.accuracy, p.latency_ms] for p in points]), [1 / classes, limit], MAXIMIZE)

    runs = {(f.config.search.sampler, f.config.run.seed): trained_candidates(f) for f in folders}
    total = volume([p for points, _ in runs.values() for p in points])
    fronts = {key: _front(points) for key, (points, _) in runs.items()}
    rows: dict[str, list[Row]] = defaultdict(list)
    for (sampler, seed), (points, proposed) in sorted(runs.items()):
        shares = tuple(volume([p for p in points if p.at_s <= share * budget]) / total for share in SHARES)
        others = [p for (name, _), front in fronts.items() if name != sampler for p in front]
        beaten = mean(any(_dominates(o, p) for o in others) for p in fronts[sampler, seed])
        rows[sampler].append(Row(seed, proposed, len(points), shares, beaten))
    header = ["sampler", "seeds", "proposed", "trained", *(f"{share:.0%} of the budget" for share in SHARES), "beaten"]
    lines = [
        _cells(name, sampler_rows) for name, sampler_rows in sorted(rows.items(), key=lambda item: -_last(item[1]))
    ]
    if args.markdown:
        print("\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *lines)))
    else:
        widths = [max(len(line[i]) for line in (header, *lines)) for i in range(len(header))]
        for line in (header, *lines):
            print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))
    if args.json:
        figures = {name: [row._asdict() for row in sampler_rows] for name, sampler_rows in rows.items()}
        args.json.write_text(json.dumps(figures, indent=1) + "\n")


def _cells(sampler: str, runs: list[Row]) -> list[str]:
    columns = zip(*(row.shares for row in runs), strict=True)
    counts = [f"{mean(row.proposed for row in runs):.0f}", f"{mean(row.trained for row in runs):.0f}"]
    shares = [f"{mean(c):.3f} ({min(c):.3f}-{max(c):.3f})" for c in columns]
    return [sampler, str(len(runs)), *counts, *shares, f"{mean(row.beaten for row in runs):.0%}"]


def _last(runs: list[Row]) -> float:
    return mean(row.shares[-1] for row in runs)


def _front(points: list[TrainedCandidate]) -> list[TrainedCandidate]:
    keep = non_dominated([[p.accuracy, p.latency_ms] for p in points], MAXIMIZE)
    return [p for p, is_kept in zip(points, keep, strict=True) if is_kept]


def _dominates(candidate: TrainedCandidate, other: TrainedCandidate) -> bool:
    return (
        candidate.accuracy >= other.accuracy and candidate.latency_ms <= other.latency_ms and candidate[1:] != other[1:]
    )


if __name__ == "__main__":
    main()
