"""Accuracy across folds, against scipy and by hand."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from nas.results.fold_statistics import describe_folds, fold_statistics, format_folds, write_folds
from nas.results.record import Record
from tests.fake_runs import a_run, some_record, some_score


def in_folds(trial: int, *accuracies: float | None, n: int = 300, epochs: float = 23.0) -> list[Record]:
    """Verified records of the folds; the accuracy is that of the test part, of `n` faces."""
    return [
        some_record(
            trial, 0.5, 1.0 + trial, phase="verified", seed=fold, epochs=epochs,
            test=None if accuracy is None else some_score(accuracy, n=n),
        )
        for fold, accuracy in enumerate(accuracies)
    ]  # fmt: skip


def test_mean_and_interval_agree_with_scipy() -> None:
    accuracies = (0.60, 0.63, 0.66, 0.57)
    (found,) = fold_statistics(in_folds(1, *accuracies), 4)
    assert found.accuracies == pytest.approx(dict(enumerate(accuracies)))
    low, high = stats.t.interval(0.95, 3, loc=np.mean(accuracies), scale=stats.sem(accuracies))
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(accuracies), low, high), abs=1e-4)


def test_pooled_share_counts_faces_and_the_mean_counts_folds() -> None:
    records = [*in_folds(1, 0.9, n=30), *(r for r in in_folds(1, 0.0, 0.5, n=300) if r.seed)]
    (found,) = fold_statistics(records, 2)
    assert found.mean == pytest.approx(0.7)
    assert found.pooled == pytest.approx((27 + 150) / 330)


def test_the_best_mean_is_first_and_missing_folds_are_dashes() -> None:
    short = [r for r in in_folds(2, 0.8, 0.9, epochs=11.0) if r.seed]  # cut short: half of the epochs
    records = [*in_folds(1, 0.5, 0.6, None), *in_folds(2, 0.7), *short, *in_folds(3, None, 0.9, 0.9)]
    found = fold_statistics(records, 3)
    # Member 3 has no score in the first fold, whose file ships.
    assert [member.record.trial for member in found] == [2, 1]
    assert format_folds(found[1]) == "50.0%, 60.0%, -"
    assert (found[0].low, found[0].high) == (None, None)
    assert describe_folds(records, 3)[1].startswith("trial 1: 55.0% (")
    assert describe_folds(records, 3)[1].endswith("across 2 of 3 folds, 55.0% of all tested faces [50.0%, 60.0%, -]")
    assert describe_folds(records, 1) == []


def test_table_has_a_row_for_each_member_and_fold(tmp_path: Path) -> None:
    folder = a_run(tmp_path, records=[*in_folds(1, 0.5, 0.6), *in_folds(2, 0.7, 0.9)])
    assert write_folds(folder) is None
    folder.write("data.json", json.dumps({"name": "x", "n_folds": 2}))
    path = write_folds(folder)
    assert path is not None
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["trial"], r["fold"], float(r["test_accuracy"]), r["faces"]) for r in rows] == [
        ("2", "1", 0.7, "300"),
        ("2", "2", 0.9, "300"),
        ("1", "1", 0.5, "300"),
        ("1", "2", 0.6, "300"),
    ]
