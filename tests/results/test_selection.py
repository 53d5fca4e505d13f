"""Picks on a front whose members are known: verified trials 0 (50 % at 1 ms), 1 (65 % at 2 ms), 2 (80 % at 4 ms)."""

import pytest

from nas.errors import ConfigError
from nas.results.selection import Limits, make_limits, pick
from tests.fake_runs import a_search, some_record

BOTH = ("accuracy", "latency")


def chosen(**limits) -> int:
    return pick(a_search(), BOTH, limits=make_limits(**limits)).record.trial


def test_limits_from_above_ask_for_the_most_accurate() -> None:
    assert chosen(max_latency="4ms") == 2
    assert chosen(max_latency=3.9) == 1
    assert chosen(max_latency="0.01s", max_size="2kB") == 1


def test_a_limit_of_accuracy_asks_for_the_fastest() -> None:
    assert chosen(min_accuracy=0.6) == 1
    assert chosen(min_accuracy=0.1) == 0


def test_with_all_limits_the_most_accurate_within_them() -> None:
    assert chosen(min_accuracy=0.6, max_latency="5ms") == 2


def test_without_limits_it_is_the_knee() -> None:
    # Scaled: (0, 1), (0.5, 2/3), (1, 0); the middle one is the farthest above the chord.
    found = pick(a_search(), BOTH)
    assert found.record.trial == 1
    assert "knee" in found.reason
    assert "of 3 on the verified front" in found.reason


def test_the_knee_keeps_limits() -> None:
    assert pick(a_search(), BOTH, limits=Limits(max_latency=1.5), knee=True).record.trial == 0


def test_neighbours_and_what_they_trade() -> None:
    found = pick(a_search(), BOTH)
    assert found.faster.trial == 0
    assert found.slower.trial == 2
    faster, slower = found.describe_trade_offs()
    assert "trial 0, has -15.0 points of accuracy at 0.50 times the latency" in faster
    assert "trial 2, has +15.0 points of accuracy at 2.00 times the latency" in slower
    end = pick(a_search(), BOTH, limits=Limits(max_latency=1.0))
    assert end.faster is None
    assert len(end.describe_trade_offs()) == 1


def test_intervals_that_overlap_are_said() -> None:
    records = [some_record(0, 0.5, 1.0), some_record(1, 0.51, 2.0)]
    assert "overlap" in pick(records, BOTH, limits=Limits(max_latency=1.0)).describe_trade_offs()[0]


def test_what_nobody_keeps_is_refused_with_the_nearest() -> None:
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
