"""The trained candidates of runs as one CSV: a NAS benchmark table of this project, for benchmarks/search_table.py.

    python -m benchmarks.fer_table runs/NAME ... OUT.csv

The table has one row per trained candidate, oldest first; of a candidate in several runs, only the first row. Columns:

- `key`;
- accuracy on the selection split with its 95 % interval, 0..1, and epochs;
- latency in ms with its interval, and whether it is measured or predicted;
- size in bytes, parameters, multiply-accumulates;
- the genes as proposed by the sampler, each under `gene.NAME`.

All rows must have had the same training. Candidates that stopped before the last rung, or because the budget ended, are
therefore left out.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.searcher.storage import picks_by_key

GENE = "gene."
"""Prefix of the columns of genes."""


def table(folder: RunFolder) -> pd.DataFrame:
    """The rows of a run's fully trained candidates; see the module.

    Raises:
        SystemExit: the run has none.
    """
    config = folder.config
    complete = [r for r in folder.records() if r.phase == "search" and r.status == "complete"]
    full = [r for r in complete if r.rung == len(config.training.rungs) and r.epochs >= config.training.epochs]
    if not full:
        raise SystemExit(
            f"{folder.path} must hold candidates that were trained through all rungs, but has {len(complete)} others"
        )
    picks = picks_by_key(folder)
    return pd.DataFrame([_row(record, picks[record.key]) for record in full])


def _row(record: Record, configuration: Mapping[str, Any]) -> dict[str, Any]:
    score, latency = record.score, record.latency
    if score is None or latency is None:
        raise SystemExit(
            f"a complete record must have a score and a latency, but that of trial {record.trial} lacks one"
        )
    return {
        "key": record.key,
        "accuracy": round(score.accuracy, 6),
        "accuracy_low": round(score.low, 6),
        "accuracy_high": round(score.high, 6),
        "epochs": record.epochs,
        "latency_ms": latency.latency_ms,
        "latency_low_ms": latency.low_ms,
        "latency_high_ms": latency.high_ms,
        "latency_kind": latency.kind,
        "latency_disturbed": latency.is_disturbed,
        "size_bytes": record.size_bytes,
        "params": record.params,
        "macs": record.macs,
        **{f"{GENE}{name}": value for name, value in sorted(configuration.items())},
    }


def _must_be_alike(folders: Sequence[RunFolder]) -> None:
    """Refuse runs whose candidates differ in training or target."""
    first = folders[0].config
    for folder in folders[1:]:
        for field in ("space", "target", "dataset", "compressors", "epochs", "rungs", "max_latency", "prune_steps"):
            expected, value = first.get(field), folder.config.get(field)
            if expected != value:
                raise SystemExit(f"runs must have the same {field}, but {folder.path} has {value} and not {expected}")


def main() -> None:
    """Write the table and print a summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "run", type=Path, nargs="+", help="run folders of searches that differ in the sampler or seed only"
    )
    parser.add_argument("out", type=Path, help="the CSV to write")
    options = parser.parse_args()
    folders = [RunFolder.open_existing(path) for path in options.run]
    _must_be_alike(folders)
    frame = pd.concat([table(folder) for folder in folders]).drop_duplicates("key")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(options.out, index=False)
    genes = sum(str(name).startswith(GENE) for name in frame)
    print(f"{options.out}: {len(frame)} candidates of {genes} genes, accuracy {frame.accuracy.min():.1%} to "
          f"{frame.accuracy.max():.1%}, {frame.latency_ms.min():.3g} to {frame.latency_ms.max():.3g} ms")  # fmt: skip


if __name__ == "__main__":
    main()
