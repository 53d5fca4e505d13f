"""Fronts of records made by hand whose dominance is known."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from nas.results.front import (
    dropped_members,
    is_feasible,
    pareto_front,
    representatives,
    search_front,
    verified_front,
)
from tests.fake_runs import a_search, some_record

BOTH = ("accuracy", "latency")


def trials(records) -> list[int]:
    return [r.trial for r in records]


def test_the_search_front_is_complete_feasible_and_non_dominated() -> None:
    assert trials(search_front(a_search(), BOTH)) == [0, 1, 2, 5]


def test_the_verified_front_replaces_the_search_front() -> None:
    records = a_search()
    assert trials(verified_front(records, BOTH)) == trials(pareto_front(records, BOTH)) == [0, 1, 2]
    unverified = [r for r in records if r.phase == "search"]
    assert verified_front(unverified, BOTH) == []
    assert pareto_front(unverified, BOTH) == search_front(records, BOTH)


def test_the_latest_record_of_each_key_counts() -> None:
    again = some_record(9, 0.45, 1.0, key_of=0)
    found = search_front([*a_search(), again], BOTH)
    assert [r.trial for r in found if r.key == again.key] == [9]


def test_a_third_objective_keeps_small_files_on_the_front() -> None:
    small = some_record(3, 0.50, 3.0, size_bytes=10)
    records = [*a_search()[:3], small]
    assert trials(search_front(records, BOTH)) == [0, 1, 2]
    assert trials(search_front(records, (*BOTH, "size"))) == [0, 1, 3, 2]


def test_a_dropped_member_names_the_one_that_dominates_it() -> None:
    (fell,) = dropped_members(a_search(), BOTH)
    assert (fell.search.trial, fell.verified.phase, fell.dominated_by.trial) == (5, "verified", 2)
    assert fell.reason.startswith("trial 2 is +2.0 points of accuracy, -0.800 ms")


def test_a_member_that_violates_a_constraint_when_verified_is_dropped() -> None:
    records = a_search()
    records[-1] = replace(records[-1], status="infeasible", violations={"max_latency": 0.1})
    (fell,) = dropped_members(records, BOTH)
    assert (fell.dominated_by, fell.reason) == (None, "breaks max_latency after full training")


def test_a_complete_record_with_a_violation_is_infeasible() -> None:
    assert is_feasible(some_record(1, 0.5, 1.0, violations={"max_latency": 0.0}))
    assert not is_feasible(some_record(1, 0.5, 1.0, violations={"max_latency": 0.01}))


@given(
    figures=st.lists(st.tuples(st.integers(1, 99), st.integers(1, 99)), min_size=1, max_size=12, unique=True),
    k=st.integers(0, 13),
)
def test_the_most_accurate_is_among_the_representatives(figures: list[tuple[int, int]], k: int) -> None:
    records = [some_record(i, accuracy / 100, float(ms)) for i, (accuracy, ms) in enumerate(figures)]
    members = search_front(records, ("accuracy", "latency"))
    chosen = representatives(members, ("accuracy", "latency"), k)
    assert len({record.key for record in chosen}) == len(chosen) == min(k, len(members))
    assert {record.key for record in chosen} <= {record.key for record in members}
    best = max(record.score.accuracy for record in members if record.score)
    assert k < 2 or best in {record.score.accuracy for record in chosen if record.score}
    fewer = {record.key for record in representatives(members, ("accuracy", "latency"), max(0, k - 1))}
    assert k < 3 or fewer <= {record.key for record in chosen}, "a larger number only adds"


def test_a_single_representative_is_the_knee() -> None:
    records = [some_record(i, *at) for i, at in enumerate([(0.3, 1.0), (0.6, 1.2), (0.61, 9.0)])]
    assert [r.trial for r in representatives(records, ("accuracy", "latency"), 1)] == [1]
    assert [r.trial for r in representatives(records, ("accuracy", "latency"), 2)] == [1, 2]
