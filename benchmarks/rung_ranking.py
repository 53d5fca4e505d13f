"""Rank correlation between the accuracies at a run's rungs and the final ones.

    python -m benchmarks.rung_ranking RUN [RUN ...] [--json OUT.json]

It is Spearman's rho over the candidates that reached both. The earlier rung selected those of the later one, which
makes rho smaller than over all candidates.
"""

import argparse
import json
from itertools import combinations
from pathlib import Path
from typing import Any

from scipy.stats import spearmanr

from nas.results.run_folder import RunFolder


def accuracies(folder: RunFolder) -> dict[str, dict[str, float]]:
    """Accuracies 0..1 by stage ("rung 1", ..., "file after all rungs", "verified") and candidate key."""
    by_stage: dict[str, dict[str, float]] = {}
    for entry in folder.json_lines("rungs.jsonl"):
        by_stage.setdefault(f"rung {entry['rung']}", {})[entry["key"]] = entry["values"][0]
    for record in folder.records():
        is_complete = record.rung == len(folder.config.training.rungs)
        if record.score and not record.seed and (record.phase == "verified" or is_complete):
            stage = "verified" if record.phase == "verified" else "file after all rungs"
            by_stage.setdefault(stage, {})[record.key] = record.score.accuracy
    return by_stage


def main() -> None:
    """Compute, print the table, and write the JSON file if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for path in args.runs:
        stages = accuracies(RunFolder.open_existing(path))
        for first, second in combinations(stages, 2):
            keys = sorted(stages[first].keys() & stages[second].keys())
            if len(keys) < 4:
                continue
            rho = spearmanr([stages[first][k] for k in keys], [stages[second][k] for k in keys]).statistic
            rows.append({"run": path.name, "from": first, "to": second, "candidates": len(keys), "rho": float(rho)})
    for row in rows:
        print(
            f"{row['run']:20} {row['from']:10} -> {row['to']:22} {row['candidates']:4} candidates  rho {row['rho']:.3f}"
        )
    if not rows:
        print("no two rungs share four candidates yet")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
