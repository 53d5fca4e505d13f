"""Selections on a known front: verified trials 0 (50 % at 1 ms), 1 (65 % at 2 ms), 2 (80 % at 4 ms)."""

import pytest

from nas.errors import ConfigError
from nas.results.selection import Limits, find_record, make_limits, pick
from tests.fake_runs import a_search, some_record

BOTH = ("accuracy", "latency")


def chosen(**limits) -> int:
    return pick(a_search(), BOTH, limits=make_limits(**limits)).record.trial


def test_limits_on_costs_select_the_most_accurate() -> None:
    assert chosen(max_latency="4ms") == 2
    assert chosen(max_latency=3.9) == 1
    assert chosen(max_latency="0.01s", max_size="2kB") == 1


def test_a_limit_on_memory_is_kept_and_an_unknown_memory_violates_it() -> None:
    records = [
        some_record(i, accuracy, 1.0 + i, memory_bytes=n) for i, (accuracy, n) in enumerate([(0.5, 2000), (0.6, 4000)])
    ]
    assert pick(records, BOTH, limits=make_limits(max_memory="3kB")).record.trial == 0
    assert pick(records, BOTH, limits=make_limits(max_memory="4kB")).record.trial == 1
    with pytest.raises(ConfigError, match="nan bytes of memory are above the limit of 3000"):
        chosen(max_memory="3kB")


def test_a_minimum_accuracy_selects_the_fastest() -> None:
    assert chosen(min_accuracy=0.6) == 1
    assert chosen(min_accuracy=0.1) == 0


def test_all_limits_select_the_most_accurate_within_them() -> None:
    assert chosen(min_accuracy=0.6, max_latency="5ms") == 2


def test_without_limits_the_knee_is_selected() -> None:
    # Scaled: (0, 1), (0.5, 2/3), (1, 0); the middle one is the farthest above the chord.
    found = pick(a_search(), BOTH)
    assert found.record.trial == 1
    assert "knee" in found.reason
    assert "of 3 on the verified front" in found.reason


def test_the_knee_is_taken_within_the_limits() -> None:
    assert pick(a_search(), BOTH, limits=Limits(max_latency=1.5), knee=True).record.trial == 0


def test_trade_offs_against_both_neighbours() -> None:
    found = pick(a_search(), BOTH)
    assert found.faster.trial == 0
    assert found.slower.trial == 2
    faster, slower = found.describe_trade_offs()
    assert "trial 0, has -15.0 points of accuracy at 0.50 times the latency" in faster
    assert "trial 2, has +15.0 points of accuracy at 2.00 times the latency" in slower
    end = pick(a_search(), BOTH, limits=Limits(max_latency=1.0))
    assert end.faster is None
    assert len(end.describe_trade_offs()) == 1


def test_overlapping_intervals_are_reported() -> None:
    records = [some_record(0, 0.5, 1.0), some_record(1, 0.51, 2.0)]
    assert "overlap" in pick(records, BOTH, limits=Limits(max_latency=1.0)).describe_trade_offs()[0]


def test_limits_that_no_member_satisfies_are_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"trial 0 comes nearest: 1 ms is above the limit of 0\.5 ms"):
        chosen(max_latency=0.5)
    with pytest.raises(ConfigError, match=r"accuracy 50\.0% is below the limit of 99\.0%"):
        chosen(min_accuracy=0.99)
    with pytest.raises(ConfigError, match="no complete candidate yet"):
        pick([], BOTH)


def test_limits_are_checked() -> None:
    with pytest.raises(ConfigError, match="max_latency: must be a positive number"):
        make_limits(max_latency="5parsec")
    with pytest.raises(ConfigError, match="min_accuracy"):
        make_limits(min_accuracy=63)


def test_find_record_prefers_seed_0_unless_it_failed() -> None:
    better = some_record(3, 0.9, 1.0, phase="verified", seed=1)
    first = some_record(3, 0.6, 1.0, phase="verified", status="infeasible", violations={"min_accuracy": 0.1})
    assert find_record([first, better], 3) is first
    assert find_record([some_record(3, None, 1.0, phase="verified", status="failed", model=""), better], 3) is better


def test_find_record_prefers_the_verified_and_accepts_keys() -> None:
    first, again = some_record(3, 0.5, 1.0), some_record(3, 0.6, 1.0, phase="verified")
    records = [first, again, some_record(4, 0.5, 1.0)]
    assert find_record(records, 3) is again
    assert find_record(records, "3") is again
    assert find_record(records, first.key[:6]) is again
    with pytest.raises(ConfigError, match="no trial and no key is 7"):
        find_record(records, 7)
    with pytest.raises(ConfigError, match="several candidates"):
        find_record([*records, some_record(3, 0.5, 1.0, key_of=8)], 3)
