"""Accuracy across seeds against scipy and by hand; ranks; ranks within seed noise."""

import pytest
from scipy import stats

from nas.results.front import latest_by_key, pareto_front
from nas.results.record import Record
from nas.results.seed_variance import (
    describe_seed_variance,
    indistinguishable,
    rank_changes,
    seed_statistics,
    student_t_975,
)
from tests.fake_runs import a_search, some_record

BOTH = ("accuracy", "latency")


def verified(trial: int, *accuracies: float | None, epochs: float = 23.0) -> list[Record]:
    return [
        some_record(trial, accuracy, 1.0 + trial, phase="verified", seed=seed, epochs=epochs)
        for seed, accuracy in enumerate(accuracies)
    ]


def a_front(*members: list[Record]) -> list[Record]:
    searched = [some_record(m[0].trial, 0.5 + m[0].trial / 100, 1.0 + m[0].trial) for m in members]
    return [*searched, *(r for m in members for r in m)]


@pytest.mark.parametrize("freedom", [*range(1, 40), 100, 1000])
def test_the_student_quantile_agrees_with_scipy(freedom: int) -> None:
    assert student_t_975(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), abs=0.003)


def test_the_interval_uses_the_pooled_deviation() -> None:
    groups = [(0.60, 0.63, 0.66), (0.70, 0.72, 0.71)]
    found = seed_statistics(a_front(verified(1, *groups[0]), verified(2, *groups[1])))
    squares = sum(sum((a - sum(g) / 3) ** 2 for a in g) for g in groups)
    half = stats.t.ppf(0.975, 4) * (squares / 4) ** 0.5 / 3**0.5
    for s, group in zip(found, groups, strict=True):
        assert s.accuracies == pytest.approx(group)
        assert (s.mean, s.low, s.high) == pytest.approx((sum(group) / 3, s.mean - half, s.mean + half), abs=1e-4)


def test_one_seed_gives_no_interval_and_no_warning() -> None:
    records = a_search()
    assert {s.low for s in seed_statistics(records)} == {None}
    assert indistinguishable(records) == []
    assert [(p.statistics.record.trial, p.search_rank, p.verified_rank) for p in rank_changes(records)] == [
        (2, 2, 1), (5, 1, 2), (1, 3, 3), (0, 4, 4),
    ]  # fmt: skip
    (line,) = describe_seed_variance(records)
    assert "trial 2: 2 to 1, trial 5: 1 to 2" in line
    assert "--verify-seeds 3 measures it" in line


def test_only_neighbours_within_seed_noise_are_reported() -> None:
    noisy = a_front(verified(1, 0.60, 0.64), verified(2, 0.63, 0.67), verified(3, 0.90, 0.94))
    ((better, worse, half),) = indistinguishable(noisy)
    assert (better.record.trial, worse.record.trial) == (2, 1)
    assert half == pytest.approx(stats.t.ppf(0.975, 3) * (3 * 0.0008 / 3) ** 0.5, abs=1e-3)
    lines = describe_seed_variance(noisy)
    assert lines[0].startswith("trial 3: 92.0% (")
    assert "across 2 seeds [90.0%, 94.0%]; rank by accuracy 1 in the search, 1 verified" in lines[0]
    assert lines[-1].startswith("warning: the order of trials 2 and 1 is within seed noise: they differ by 3.0 points")
    assert indistinguishable(a_front(verified(1, 0.60, 0.60), verified(2, 0.63, 0.63))) == []


def test_failed_or_short_trainings_do_not_count() -> None:
    short = verified(1, 0.6, 0.7, None)
    short[1] = some_record(1, 0.7, 2.0, phase="verified", seed=1, epochs=5.0)
    (found,) = seed_statistics(a_front(short))
    assert (found.accuracies, found.n_failed) == ((0.6,), 1)
    assert describe_seed_variance(a_front(verified(1, 0.6, 0.7, None)))[0].count("1 failed") == 1


def test_seed_0_ships_even_if_another_is_better() -> None:
    records = a_front(verified(1, 0.60, 0.80), verified(2, 0.70, 0.69))
    assert [r.seed for r in latest_by_key(records, "verified")] == [0, 0]
    assert [(r.trial, round(r.score.accuracy, 2)) for r in pareto_front(records, BOTH) if r.score] == [
        (1, 0.6),
        (2, 0.7),
    ]
    assert seed_statistics(records)[0].record.seed == 0


def test_a_run_without_verified_members_has_no_lines() -> None:
    assert describe_seed_variance([r for r in a_search() if r.phase == "search"]) == []
