"""Accuracy across folds: mean of each verified member's accuracy on the test part of every fold, with its interval.

The interval is Student's t on the folds' accuracies. Their training parts overlap, so that it is somewhat too narrow;
see Nadeau and Bengio, "Inference for the generalization error" (Machine Learning 52, 2003).
"""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nas.intervals import student_t_975
from nas.results.data_facts import read_data_facts
from nas.results.front import latest_by_key
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.results.seed_variance import MIN_EPOCH_SHARE

COLUMNS = ("trial", "key", "fold", "test_accuracy", "balanced_accuracy", "faces", "epochs", "model", "sha256")
"""Columns of folds.csv; folds count from 1."""


@dataclass(frozen=True, kw_only=True)
class FoldStatistics:
    """One member in the folds of a protocol. Accuracies are on each fold's test part, 0..1.

    Attributes:
        record: of the first fold, whose file ships.
        accuracies: by number of the fold, from 0; folds without a comparable score are left out.
        n_folds: folds of the protocol.
        mean: of the accuracies, each fold counted once.
        pooled: share of all tested faces that are right.
        low: lower end of the 95 % interval of the mean; None with fewer than two folds.
        high: upper end of that interval.
    """

    record: Record
    accuracies: dict[int, float]
    n_folds: int
    mean: float
    pooled: float
    low: float | None
    high: float | None


def fold_statistics(records: Sequence[Record], n_folds: int) -> list[FoldStatistics]:
    """The verified members with a test score in the first fold, the best mean first.

    Args:
        records: of a run whose protocol has folds; `seed` is the number of the fold.
        n_folds: folds of the protocol.
    """
    members = [
        _statistics(first, records, n_folds) for first in latest_by_key(records, "verified") if first.test is not None
    ]
    return sorted(members, key=lambda member: -member.mean)


def describe_folds(records: Sequence[Record], n_folds: int) -> list[str]:
    """Mean, interval and each fold of the verified members, one line each; empty without folds."""
    members = fold_statistics(records, n_folds) if n_folds > 1 else []
    return [
        f"trial {m.record.trial}: {m.mean:.1%}{_interval(m)} across {len(m.accuracies)} of {n_folds} folds, "
        f"{m.pooled:.1%} of all tested faces [{format_folds(m)}]"
        for m in members
    ]


def format_folds(member: FoldStatistics) -> str:
    """The accuracy of each fold; a dash where there is none."""
    folds = (member.accuracies.get(fold) for fold in range(member.n_folds))
    return ", ".join("-" if accuracy is None else f"{accuracy:.1%}" for accuracy in folds)


def write_folds(folder: RunFolder) -> Path | None:
    """Write folds.csv of a run: one row for each verified member and fold, the best mean first.

    Returns:
        Its path; None where the protocol has no folds.
    """
    n_folds = int(read_data_facts(folder).get("n_folds", 1))
    if n_folds < 2:
        return None
    records = folder.records()
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for member in fold_statistics(records, n_folds):
        tests = {
            r.seed: r for r in records if r.phase == "verified" and r.key == member.record.key and r.test is not None
        }
        for fold, accuracy in member.accuracies.items():
            record = tests[fold]
            score = record.test
            figures = (f"{score.balanced_accuracy:.6f}", score.n) if score else ("", "")
            row = (record.trial, record.key, fold + 1, f"{accuracy:.6f}", *figures)
            writer.writerow([*row, f"{record.epochs:g}", record.model, record.sha256])
    return folder.write("folds.csv", text.getvalue())


def _statistics(first: Record, records: Sequence[Record], n_folds: int) -> FoldStatistics:
    again = {r.seed: r for r in records if r.phase == "verified" and r.key == first.key and 0 < r.seed < n_folds}
    whole = [first, *(r for _, r in sorted(again.items()) if r.epochs >= MIN_EPOCH_SHARE * first.epochs)]
    scores = {r.seed: r.test for r in whole if r.test is not None}
    accuracies = {fold: score.accuracy for fold, score in scores.items()}
    mean = float(np.mean(list(accuracies.values())))
    half = None
    if len(accuracies) > 1:
        deviation = float(np.std(list(accuracies.values()), ddof=1))
        half = student_t_975(len(accuracies) - 1) * deviation / math.sqrt(len(accuracies))
    return FoldStatistics(
        record=first, accuracies=accuracies, n_folds=n_folds, mean=mean,
        pooled=sum(s.accuracy * s.n for s in scores.values()) / max(1, sum(s.n for s in scores.values())),
        low=None if half is None else max(0.0, mean - half), high=None if half is None else min(1.0, mean + half),
    )  # fmt: skip


def _interval(member: FoldStatistics) -> str:
    if member.low is None or member.high is None:
        return ""
    return f" ({100 * member.low:.1f} to {100 * member.high:.1f})"
