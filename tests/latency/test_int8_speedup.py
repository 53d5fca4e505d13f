"""Speed-up of INT8 over FP32: it counts only beyond the intervals."""

import pytest

from nas.latency.int8_speedup import int8_speedup
from nas.latency.latency import Latency


def timed(low: float, middle: float, high: float, kind: str = "measured") -> Latency:
    return Latency(kind=kind, device="d", runtime="r", latency_ms=middle, low_ms=low, high_ms=high)  # type: ignore[arg-type]


def test_a_clear_speed_up_is_faster() -> None:
    found = int8_speedup(timed(0.9, 1.0, 1.1), timed(1.8, 2.0, 2.2))
    assert found.is_faster
    assert (found.speedup, found.low, found.high) == pytest.approx((2.0, 1.8 / 1.1, 2.2 / 0.9))
    assert found.violation == pytest.approx(1.1 / 1.8 - 1)
    assert str(found) == "2.00 times as fast: 1 ms against 2 ms of its float twin, measured"


@pytest.mark.parametrize("own", [timed(0.9, 1.0, 1.1), timed(1.1, 1.2, 1.3), timed(1.0, 1.05, 1.05)])
def test_overlapping_intervals_and_slowdowns_are_no_gain(own: Latency) -> None:
    found = int8_speedup(own, timed(1.0, 1.05, 1.1))
    assert not found.is_faster
    assert found.violation >= 0
    assert str(found).startswith("no gain: ")


def test_the_intervals_of_predictions_do_not_count_as_their_errors_are_common() -> None:
    assert int8_speedup(timed(0.5, 1.0, 2.0, "predicted"), timed(0.6, 1.2, 2.4, "predicted")).is_faster
    assert not int8_speedup(timed(0.6, 1.2, 2.4, "predicted"), timed(0.6, 1.2, 2.4, "predicted")).is_faster


def test_measured_and_predicted_are_not_compared() -> None:
    with pytest.raises(ValueError, match="both latencies must be of one kind, but got measured and predicted"):
        int8_speedup(timed(1, 1, 1), timed(1, 1, 1, "predicted"))
