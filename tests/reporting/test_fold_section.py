"""Folds in the report, on the terminal and in a notebook."""

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from nas.cli.render.terminal import show_front
from nas.reporting.fold_section import fold_section
from nas.reporting.forecast_section import seed_variance_section
from nas.reporting.html_report import write_report
from nas.reporting.run_view import RunView
from nas.results.run import Run
from nas.results.run_folder import RunFolder
from tests.fake_runs import a_run, some_record
from tests.results.test_fold_statistics import in_folds


def a_run_with_folds(runs: Path) -> RunFolder:
    records = [some_record(1, 0.4, 2.0), some_record(2, 0.5, 3.0), *in_folds(1, 0.6, 0.7, 0.8), *in_folds(2, 0.7, 0.9)]
    folder = a_run(runs, records=records, protocol="kfold:3")
    folder.write("data.json", json.dumps({"name": "x", "n_folds": 3}))
    return folder


def words(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def test_report_has_mean_interval_and_each_fold_and_no_seeds(tmp_path: Path) -> None:
    folder = a_run_with_folds(tmp_path)
    told = words(fold_section(RunView(folder), show_run_name=False))
    assert "Accuracy across folds, kfold:3" in told
    assert re.search(r"2 80\.0% [0-9.]+% to 100\.0% 80\.0% 2 of 3 70\.0%, 90\.0%, - 1 70\.0% 45\.2% to 94\.8%", told)
    assert told in words(write_report([folder], folder.path / "report.html").read_text())
    assert seed_variance_section(RunView(folder), show_run_name=False) == ""
    assert fold_section(RunView(a_run(tmp_path / "none")), show_run_name=False) == ""


def test_terminal_has_a_line_for_each_member(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=160)
    show_front(console, a_run_with_folds(tmp_path))
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert "trial 1: 70.0% (45.2 to 94.8) across 3 of 3 folds, 70.0% of all tested faces [60.0%, 70.0%, 80.0%]" in told
    assert "seed" not in told


def test_notebook_has_a_column_for_each_fold(tmp_path: Path) -> None:
    run = Run(a_run_with_folds(tmp_path))
    table = run.fold_statistics
    assert list(table.columns) == ["trial", "mean", "low", "high", "pooled", "fold_1", "fold_2", "fold_3"]
    assert table.trial.tolist() == [2, 1]
    assert table.fold_3.isna().tolist() == [True, False]
    assert table["mean"].tolist() == pytest.approx([0.8, 0.7])
    assert run.seed_statistics.seeds.tolist() == [1, 1]
    assert len(Run(a_run(tmp_path / "none")).fold_statistics) == 0
