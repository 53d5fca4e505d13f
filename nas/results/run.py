"""Run for notebooks: records and front of a finished or running search as pandas DataFrames."""

from pathlib import Path
from typing import Any

import pandas as pd

from nas.config import SearchConfig
from nas.errors import ConfigError
from nas.results.compression_effect import find_baseline
from nas.results.data_facts import DATA_FILE, DataFacts
from nas.results.fold_statistics import fold_statistics
from nas.results.front import dropped_members, pareto_front, search_front
from nas.results.front_table import COLUMNS, table_rows
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.results.seed_variance import rank_changes

SEED_COLUMNS = ("trial", "seeds", "failed", "mean", "low", "high", "rank_in_search", "rank_verified")


class Run:
    """One run folder, opened for reading. Each property includes what a running search has added since.

    Examples:
        >>> run = nas.load_run("runs/synthetic-plain-jetson")
        >>> run.front[["trial", "accuracy", "latency_ms", "latency_kind"]]
           trial  accuracy  latency_ms latency_kind
        0      0      0.50         1.0    predicted
        1      1      0.65         2.0    predicted
        2      2      0.80         4.0    predicted
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def __repr__(self) -> str:
        return f"Run({str(self.folder.path)!r})"

    @property
    def config(self) -> SearchConfig:
        """The configuration the run was started with."""
        return self.folder.config

    @property
    def data(self) -> dict[str, Any]:
        """Facts of the data set: name, classes, counts, digest, whether synthetic; empty where none were written."""
        facts: dict[str, Any] = self.folder.read_json(DATA_FILE, DataFacts)
        return facts

    @property
    def all_records(self) -> list[Record]:
        """All finished candidates, oldest first."""
        return self.folder.records()

    @property
    def records(self) -> pd.DataFrame:
        """One row for each finished candidate, oldest first: the columns of pareto.csv, then status, reason, seed."""
        records = self.all_records
        more = [
            {"status": r.status, "reason": r.reason, "rung": r.rung, "finished": r.finished, "seed": r.seed}
            for r in records
        ]
        rows = table_rows(records, baseline=find_baseline(records))
        table = [row | extra for row, extra in zip(rows, more, strict=True)]
        return pd.DataFrame(table, columns=[*COLUMNS, "status", "reason", "rung", "finished", "seed"])

    @property
    def front(self) -> pd.DataFrame:
        """The verified front, or the search front while that is empty; fastest first."""
        records = self.all_records
        table = table_rows(pareto_front(records, self.config.search.objectives), baseline=find_baseline(records))
        return pd.DataFrame(table, columns=list(COLUMNS))

    @property
    def seed_statistics(self) -> pd.DataFrame:
        """Verified members by mean accuracy across seeds, best first: its 95 % interval, and ranks before and after.

        With a protocol of folds the trainings are no seeds: only the first one counts, see `fold_statistics`.
        """
        has_folds = int(self.data.get("n_folds", 1)) > 1
        records = [r for r in self.all_records if not (has_folds and r.seed)]
        table = [
            {
                "trial": s.record.trial, "seeds": len(s.accuracies), "failed": s.n_failed, "mean": s.mean, "low": s.low,
                "high": s.high, "rank_in_search": change.search_rank, "rank_verified": change.verified_rank,
            }
            for change in rank_changes(records)
            for s in (change.statistics,)
        ]  # fmt: skip
        return pd.DataFrame(table, columns=list(SEED_COLUMNS))

    @property
    def fold_statistics(self) -> pd.DataFrame:
        """Verified members by mean test accuracy across the folds of the protocol, best first; empty without folds."""
        n_folds = int(self.data.get("n_folds", 1))
        members = fold_statistics(self.all_records, n_folds) if n_folds > 1 else []
        table = [
            {
                "trial": m.record.trial, "mean": m.mean, "low": m.low, "high": m.high, "pooled": m.pooled,
                **{f"fold_{fold + 1}": m.accuracies.get(fold) for fold in range(n_folds)},
            }
            for m in members
        ]  # fmt: skip
        folds = [f"fold_{fold + 1}" for fold in range(n_folds)] if n_folds > 1 else []
        return pd.DataFrame(table, columns=["trial", "mean", "low", "high", "pooled", *folds])

    @property
    def baseline(self) -> Record | None:
        """The uncompressed model; None in a run that searched architectures."""
        return find_baseline(self.all_records)

    @property
    def search_front(self) -> pd.DataFrame:
        """The front of the search, before full training; fastest first."""
        return pd.DataFrame(
            table_rows(search_front(self.all_records, self.config.search.objectives)), columns=list(COLUMNS)
        )

    @property
    def dropped(self) -> pd.DataFrame:
        """Members that dropped off the front after full training: trial, by_trial (the dominating one), reason."""
        dropped = dropped_members(self.all_records, self.config.search.objectives)
        table = [
            {"trial": f.search.trial, "by_trial": f.dominated_by.trial if f.dominated_by else None, "reason": f.reason}
            for f in dropped
        ]
        return pd.DataFrame(table, columns=["trial", "by_trial", "reason"])


def load_run(path: str | Path | None = None, *, runs: str | Path = "runs") -> Run:
    """Open a run.

    Args:
        path: the run folder; None takes the one in `runs` that was written last.
        runs: folder of all runs.

    Raises:
        ConfigError: `path` is no run folder, or `runs` holds none.

    Examples:
        >>> nas.load_run("runs/synthetic-plain-jetson")
        Run('runs/synthetic-plain-jetson')
    """
    return Run(RunFolder.open_existing(Path(path)) if path is not None else newest_run(Path(runs)))


def newest_run(runs_dir: Path) -> RunFolder:
    """The run in `runs_dir` that was written last.

    Raises:
        ConfigError: there is none.
    """
    folders = [file.parent for file in runs_dir.glob("*/config.toml")]
    if not folders:
        raise ConfigError(f"{runs_dir} holds no run yet; start one with `nas search`, or give the path of a run folder")
    return RunFolder(max(folders, key=_last_modified_s))


def _last_modified_s(folder: Path) -> float:
    """When a run was written last, in seconds since the epoch."""
    files = (folder / "records.jsonl", folder / "config.toml")
    return max(f.stat().st_mtime for f in files if f.exists())
