"""Constraints: the violation of each, and its description."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.config import SearchConfig, make_config
from nas.evaluation.constraints import describe_violations, violations
from nas.latency.int8_speedup import Int8Speedup
from tests.fake_runs import some_latency

POSITIVE = st.floats(1e-3, 1e3)
LOSS = Int8Speedup(speedup=1.0, low=0.8, high=1.2, twin_ms=1.0, own_ms=1.0, kind="measured")


def violations_of(config: SearchConfig, **figures: Any) -> dict[str, float]:
    return violations(config.limits, config.search.objectives, **figures)


@given(POSITIVE, POSITIVE)
def test_a_limit_is_satisfied_exactly_if_the_value_is_not_above_it(ms: float, limit: float) -> None:
    found = violations_of(make_config(max_latency=limit), latency=some_latency(ms), size_bytes=None)
    assert found.keys() == {"max_latency"}
    assert (found["max_latency"] > 0) == (ms / limit > 1)
    assert bool(describe_violations(found, None)) == (found["max_latency"] > 0)


def test_each_violation_is_a_share_of_its_limit_and_accuracy_is_in_points() -> None:
    config = make_config(max_latency=2.0, max_size=100.0, min_accuracy=0.6)
    found = violations_of(config, latency=some_latency(3.0), size_bytes=90, accuracy=0.55, int8_speedup=LOSS)
    assert found == {
        "max_latency": pytest.approx(0.5), "max_size": pytest.approx(-0.1), "min_accuracy": pytest.approx(0.05),
        "no_gain": pytest.approx(0.25),
    }  # fmt: skip
    assert describe_violations(found, LOSS) == (
        "max_latency exceeded by 50.0%; min_accuracy missed by 5.0%; "
        "8 bits: no gain: 1 ms against 1 ms of its float twin, measured"
    )


@pytest.mark.parametrize(("slowdown", "is_satisfied"), [(None, False), (0.02, False), (0.25, True)])
def test_the_load_of_a_busy_machine_violates_no_limit(slowdown: float | None, is_satisfied: bool) -> None:
    latency = replace(some_latency(6.0), slowdown=slowdown)
    assert (
        violations_of(make_config(max_latency=5.0), latency=latency, size_bytes=None)["max_latency"] <= 0
    ) == is_satisfied


def test_memory_is_a_share_of_its_limit() -> None:
    config = make_config(max_memory="1MiB")
    found = violations_of(config, latency=None, size_bytes=None, memory_bytes=3 * 2**19)
    assert found == {"max_memory": pytest.approx(0.5)}
    assert describe_violations(found, None) == "max_memory exceeded by 50.0%"
    assert violations_of(config, latency=None, size_bytes=None, memory_bytes=2**20) == {"max_memory": 0.0}
    assert violations_of(config, latency=None, size_bytes=None) == {}


def test_layers_that_fall_back_from_a_dla_are_counted_beyond_the_limit() -> None:
    config = make_config(max_dla_fallback=1)
    for fallback, excess, words in ((1, 0.0, ""), (2, 1.0, "by 1 layer"), (4, 3.0, "by 3 layers")):
        latency = replace(some_latency(3.0, kind="measured"), dla_fallback=fallback)
        found = violations_of(config, latency=latency, size_bytes=None)
        assert found == {"max_dla_fallback": excess}
        assert describe_violations(found, None) == (f"max_dla_fallback exceeded {words}" if words else "")
    assert violations_of(config, latency=some_latency(3.0), size_bytes=None) == {}  # not measured on a DLA
    strict = make_config(max_dla_fallback=0)
    one = replace(some_latency(3.0, kind="measured"), dla_fallback=1)
    assert violations_of(strict, latency=one, size_bytes=None) == {"max_dla_fallback": 1.0}


def test_unknown_figures_and_absent_limits_are_left_out() -> None:
    assert violations_of(make_config(max_latency=2.0), latency=None, size_bytes=90) == {}
    assert violations_of(make_config(), latency=some_latency(3.0), size_bytes=90, accuracy=0.1) == {}
    assert describe_violations({}, None) == ""


def test_int8_need_not_be_faster_where_size_is_an_objective() -> None:
    config = make_config(objectives=("accuracy", "latency", "size"))
    assert violations_of(config, latency=None, size_bytes=None, int8_speedup=LOSS) == {}
