"""Variance between training seeds: mean accuracy of each verified member, and ranks that are within seed noise.

The standard deviation between seeds is assumed to be the same for all members and pooled over them, so that two or
three seeds are enough for an estimate. It is the deviation of training alone: all seeds are evaluated on the same faces
of the selection split, so the interval does not cover new faces. The interval beside the accuracy of a file does.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nas.intervals import student_t_975
from nas.results.front import latest_by_key
from nas.results.record import Record

MIN_EPOCH_SHARE = 0.99
"""Share of the epochs of seed 0 that another training needs to compare with it."""


@dataclass(frozen=True, kw_only=True)
class SeedStatistics:
    """The full trainings of one member. Accuracies are on the selection split, 0..1.

    Attributes:
        record: of seed 0, whose file ships.
        accuracies: of each comparable training with a score, seed 0 first.
        n_failed: trainings without a score.
        mean: of the accuracies.
        low: lower end of the 95 % interval of the mean across seeds; None where no member has two seeds.
        high: upper end of that interval.
    """

    record: Record
    accuracies: tuple[float, ...]
    n_failed: int
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class RankChange:
    """Rank of a verified member among the verified by accuracy, 1 best.

    Attributes:
        statistics: its full trainings.
        search_rank: by the accuracy in the search.
        verified_rank: by the mean accuracy across seeds.
    """

    statistics: SeedStatistics
    search_rank: int
    verified_rank: int


def seed_statistics(records: Sequence[Record]) -> list[SeedStatistics]:
    """All verified members with a score of seed 0, in the order they were verified."""
    trainings = [
        _comparable_trainings(first, records) for first in latest_by_key(records, "verified") if first.score is not None
    ]
    deviation, freedom = _pooled_std([accuracies for _, accuracies, _ in trainings])
    half = student_t_975(freedom) * deviation if freedom else None
    return [
        SeedStatistics(
            record=first, accuracies=accuracies, n_failed=failed, mean=(mean := float(np.mean(accuracies))),
            low=None if half is None else max(0.0, mean - half / math.sqrt(len(accuracies))),
            high=None if half is None else min(1.0, mean + half / math.sqrt(len(accuracies))),
        )
        for first, accuracies, failed in trainings
    ]  # fmt: skip


def rank_changes(records: Sequence[Record]) -> list[RankChange]:
    """Ranks by accuracy, the most accurate across seeds first. Ties: the member that was verified first ranks first.

    Members without an accuracy in the search are left out.
    """
    before = {r.key: r.score.accuracy for r in latest_by_key(records, "search") if r.score is not None}
    members = [s for s in seed_statistics(records) if s.record.key in before]
    searched = sorted(members, key=lambda s: -before[s.record.key])
    verified = sorted(members, key=lambda s: -s.mean)
    return [
        RankChange(statistics=s, search_rank=searched.index(s) + 1, verified_rank=rank)
        for rank, s in enumerate(verified, start=1)
    ]


def indistinguishable(records: Sequence[Record]) -> list[tuple[SeedStatistics, SeedStatistics, float]]:
    """Neighbours by mean accuracy whose order is within seed noise.

    Returns:
        For each pair the better member, the worse one, and the half-width of the 95 % interval of the difference of
        their means, 0..1, which is at least their difference. Empty without repeated seeds.
    """
    members = sorted(seed_statistics(records), key=lambda s: -s.mean)
    deviation, freedom = _pooled_std([s.accuracies for s in members])
    if not freedom:
        return []
    ties = []
    for better, worse in pairwise(members):
        half = student_t_975(freedom) * deviation * math.sqrt(1 / len(better.accuracies) + 1 / len(worse.accuracies))
        if better.mean - worse.mean <= half:
            ties.append((better, worse, half))
    return ties


def describe_seed_variance(records: Sequence[Record]) -> list[str]:
    """Ranks and seed noise of the verified members, one line each; empty where none was verified."""
    ranked = rank_changes(records)
    if not ranked:
        return []
    if all(p.statistics.low is None for p in ranked):
        moved = ", ".join(f"trial {p.statistics.record.trial}: {p.search_rank} to {p.verified_rank}" for p in ranked)
        if len(ranked) == 1:
            return []
        return [
            (
                f"rank by accuracy, in the search to verified: {moved}; one training each, so the seed noise is "
                "unknown (--verify-seeds 3 measures it)"
            )
        ]
    lines = [_describe_rank_change(p) for p in ranked]
    for better, worse, half in indistinguishable(records):
        lines.append(
            f"warning: the order of trials {better.record.trial} and {worse.record.trial} is within seed noise: they "
            f"differ by {100 * (better.mean - worse.mean):.1f} points, and chance alone by up to {100 * half:.1f}"
        )
    return lines


def _comparable_trainings(first: Record, records: Sequence[Record]) -> tuple[Record, tuple[float, ...], int]:
    """The record of seed 0, the accuracies that compare with it (its own first), and the trainings without a score."""
    again = {r.seed: r for r in records if r.phase == "verified" and r.key == first.key and r.seed}
    long_enough = [r for _, r in sorted(again.items()) if r.epochs >= MIN_EPOCH_SHARE * first.epochs]
    accuracies = tuple(r.score.accuracy for r in (first, *long_enough) if r.score is not None)
    return first, accuracies, sum(r.score is None for r in again.values())


def _pooled_std(groups: Sequence[Sequence[float]]) -> tuple[float, int]:
    """Pooled standard deviation within groups and its degrees of freedom; (0, 0) where no group has two values."""
    freedom = sum(len(g) - 1 for g in groups if g)
    squares = math.fsum(float(np.sum((np.asarray(g) - np.mean(g)) ** 2)) for g in groups if g)
    return (math.sqrt(squares / freedom), freedom) if freedom else (0.0, 0)


def _describe_rank_change(change: RankChange) -> str:
    s = change.statistics
    each = ", ".join(f"{a:.1%}" for a in s.accuracies)
    interval = f" ({100 * (s.low or 0):.1f} to {100 * (s.high or 0):.1f})"
    failed = f", {s.n_failed} failed" if s.n_failed else ""
    return (
        f"trial {s.record.trial}: {s.mean:.1%}{interval} across {len(s.accuracies)} seeds [{each}]{failed}; "
        f"rank by accuracy {change.search_rank} in the search, {change.verified_rank} verified"
    )
