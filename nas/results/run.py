"""A finished or running search, for people with a notebook: its records and its front as pandas DataFrames."""

from pathlib import Path
from typing import Any

import pandas as pd

from nas.config import SearchConfig
from nas.errors import ConfigError
from nas.results.compression_effect import find_baseline
from nas.results.data_facts import DATA_FILE
from nas.results.front import dropped_members, pareto_front, search_front
from nas.results.front_table import COLUMNS, table_rows
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.results.seed_variance import rank_changes

SEED_COLUMNS = ("trial", "seeds", "failed", "mean", "low", "high", "rank_in_search", "rank_verified")


class Run:
    """One run folder, read. Every property reads anew, so a run can be watched while it goes on.

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
        """What was asked."""
        return self.folder.config

    @property
    def data(self) -> dict[str, Any]:
        """Facts of the data set: name, classes, counts, digest, whether synthetic; empty where none were written."""
        return self.folder.read_json(DATA_FILE)

    @property
    def all_records(self) -> list[Record]:
        """Every finished candidate as it was written, oldest first."""
        return self.folder.records()

    @property
    def records(self) -> pd.DataFrame:
        """One row for each finished candidate, oldest first: the columns of pareto.csv, then status, reason, seed."""
        found = self.all_records
        more = [
            {"status": r.status, "reason": r.reason, "rung": r.rung, "finished": r.finished, "seed": r.seed}
            for r in found
        ]
        table = [row | extra for row, extra in zip(table_rows(found, baseline=find_baseline(found)), more, strict=True)]
        return pd.DataFrame(table, columns=[*COLUMNS, "status", "reason", "rung", "finished", "seed"])

    @property
    def front(self) -> pd.DataFrame:
        """The verified front, or the search front as long as nothing is verified; fastest first."""
        found = self.all_records
        table = table_rows(pareto_front(found, self.config.search.objectives), baseline=find_baseline(found))
        return pd.DataFrame(table, columns=list(COLUMNS))

    @property
    def seed_statistics(self) -> pd.DataFrame:
        """Verified members by accuracy across their trainings, best first: mean, its 95 % interval, rank before."""
        table = [
            {
                "trial": p.statistics.record.trial, "seeds": len(p.statistics.accuracies), "failed": p.statistics.n_failed,
                "mean": p.statistics.mean, "low": p.statistics.low, "high": p.statistics.high, "rank_in_search": p.search_rank,
                "rank_verified": p.verified_rank,
            }
            for p in rank_changes(self.all_records)
        ]  # fmt: skip
        return pd.DataFrame(table, columns=list(SEED_COLUMNS))

    @property
    def baseline(self) -> Record | None:
        """The uncompressed net that a compression began with; None in a run that searched architectures."""
        return find_baseline(self.all_records)

    @property
    def search_front(self) -> pd.DataFrame:
        """The front as the search left it, before the full training; fastest first."""
        return pd.DataFrame(
            table_rows(search_front(self.all_records, self.config.search.objectives)), columns=list(COLUMNS)
        )

    @property
    def dropped(self) -> pd.DataFrame:
        """Who fell off the front when trained in full, and why: trial, by_trial, reason."""
        found = dropped_members(self.all_records, self.config.search.objectives)
        table = [
            {"trial": f.search.trial, "by_trial": f.dominated_by.trial if f.dominated_by else None, "reason": f.reason}
            for f in found
        ]
        return pd.DataFrame(table, columns=["trial", "by_trial", "reason"])


def load_run(path: str | Path | None = None, *, runs: str | Path = "runs") -> Run:
    """A run by the path of its folder.

    Args:
        path: the folder; None takes the one below `runs` that was written to last.
        runs: folder of all runs.

    Raises:
        ConfigError: there is no run.

    Examples:
        >>> nas.load_run("runs/synthetic-plain-jetson")
        Run('runs/synthetic-plain-jetson')
    """
    return Run(RunFolder.open_existing(Path(path)) if path is not None else newest_run(Path(runs)))


def newest_run(runs_dir: Path) -> RunFolder:
    """The run below `runs_dir` that was written to last.

    Raises:
        ConfigError: there is none.
    """
    found = [file.parent for file in runs_dir.glob("*/config.toml")]
    if not found:
        raise ConfigError(f"{runs_dir} holds no run yet; `nas search` makes one, or give the path of a run folder")
    return RunFolder(max(found, key=_last_modified_s))


def _last_modified_s(folder: Path) -> float:
    """When a run was last written to, in seconds since the epoch."""
    files = (folder / "records.jsonl", folder / "config.toml")
    return max(f.stat().st_mtime for f in files if f.exists())
