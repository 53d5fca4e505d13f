"""Improvement forecast: properties for any curve, and calibration where the truth can be simulated."""

import tracemalloc
from itertools import accumulate, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.pareto import hypervolume
from nas.results.convergence import CONVERGENCE_THRESHOLD, ImprovementForecast, forecast_improvement, has_converged

GAINS = st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 1.0)), min_size=2, max_size=60)


def curve_of(gains: list[float], top: float = 1.0) -> list[float]:
    total = sum(gains) or 1.0
    return [min(1.0, top * share / total) for share in accumulate(gains)]


def drawn(rng: np.random.Generator, n: int) -> list[float]:
    """Hypervolume of candidates drawn independently from a triangle, whose front is never reached."""
    points = rng.random((n, 2))
    points = np.where(points.sum(1, keepdims=True) > 1, 1 - points, points)
    best, curve, last = np.empty((0, 2)), [], 0.0
    for point in points:
        if not (best >= point).all(1).any():
            best = np.vstack([best[~(best <= point).all(1)], point])
            last = hypervolume(best, [0, 0], [True, True])
        curve.append(last)
    return curve


@settings(max_examples=40, deadline=None)
@given(GAINS, st.integers(1, 100), st.floats(0.1, 1.0))
def test_any_curve_gives_a_possible_and_repeatable_forecast(gains: list[float], more: int, top: float) -> None:
    curve = curve_of(gains, top)
    found = forecast_improvement(curve, more)
    assert found == forecast_improvement(curve, more)
    if sum(value > 0 for value in curve) < 2:
        assert found is None
        return
    assert found is not None
    assert 0 <= found.hypervolume_gain.low <= found.hypervolume_gain.high <= 1 / curve[-1] - 1 + 1e-9
    assert 0 <= found.hypervolume_gain.mean <= 1 / curve[-1] - 1 + 1e-9
    assert 0 <= found.front_members.low <= found.front_members.high <= more
    assert 0 <= found.front_members.mean <= more
    assert has_converged(curve, more) <= (found.hypervolume_gain.high < CONVERGENCE_THRESHOLD)


def test_no_further_improvement_adds_no_hypervolume_even_where_gains_grew() -> None:
    """Gains that double have a decay exponent of 0, which must not count what no draw contains."""
    found = forecast_improvement(curve_of([2.0**i for i in range(14)] + [0.0] * 400, 0.5), 10)
    assert found is not None
    assert found.front_members.low == 0
    assert found.hypervolume_gain.low == 0
    assert found.hypervolume_gain.mean < 0.1


@settings(max_examples=20, deadline=None)
@given(GAINS, st.integers(1, 40))
def test_infeasible_candidates_before_the_first_feasible_one_change_nothing(gains: list[float], before: int) -> None:
    curve = curve_of(gains, 0.5)
    assert forecast_improvement([0.0] * before + curve, 20) == forecast_improvement(curve, 20)


@settings(max_examples=20, deadline=None)
@given(GAINS, st.floats(0.1, 0.9))
def test_only_relative_gains_count_where_there_is_room(gains: list[float], scale: float) -> None:
    """Scaling a curve leaves the relative gains as they are; the ceiling of 1 is far away here."""
    low, high = forecast_improvement(curve_of(gains, 1e-6), 10), forecast_improvement(curve_of(gains, 1e-6 * scale), 10)
    assert (low is None) == (high is None)
    if low is not None and high is not None:
        assert low.front_members == high.front_members
        assert low.hypervolume_gain.high == pytest.approx(high.hypervolume_gain.high, rel=1e-6)


def test_the_forecast_falls_with_each_idle_candidate() -> None:
    begun = drawn(np.random.default_rng(3), 30)
    founds = [forecast_improvement(begun + [begun[-1]] * idle, 20) for idle in (0, 20, 60, 180, 540)]
    means = [found.hypervolume_gain.mean for found in founds if found]
    assert len(means) == 5
    assert all(a > b for a, b in pairwise(means))
    flats = [has_converged(begun + [begun[-1]] * idle, 20) for idle in (0, 20, 60, 180, 540)]
    assert flats == sorted(flats)
    assert (flats[0], flats[-1]) == (False, True)


@pytest.mark.parametrize("curve", [[], [0.0] * 200, [0.5], [0.0] * 199 + [0.5]])
def test_a_run_without_a_second_feasible_candidate_has_not_converged(curve: list[float]) -> None:
    assert forecast_improvement(curve, 5) is None
    assert not has_converged(curve, 5)


def test_a_search_converges_no_earlier_than_one_horizon_after_the_first_feasible() -> None:
    idle = [0.5] + [0.5000001 + 1e-9 * i for i in range(60)]
    assert has_converged(idle, 60)
    assert not has_converged(idle, 61)


def test_a_good_first_candidate_alone_is_no_convergence() -> None:
    """Searches start with known good candidates; that none beats the first at once must not end them."""
    assert not has_converged([0.6] * 21, 20)
    assert not has_converged([0.6] * 100, 20)


@pytest.mark.parametrize(("candidates", "more"), [(50, 20), (100, 50)])
def test_forecasts_are_calibrated_on_simulated_searches(candidates: int, more: int) -> None:
    rng, inside, expected, came = np.random.default_rng(7), [], [], []
    for _ in range(60):
        curve = drawn(rng, candidates + more)
        found = forecast_improvement(curve[:candidates], more)
        assert found is not None
        gain = curve[-1] / curve[candidates - 1] - 1
        members = int((np.diff(curve[candidates - 1 :]) > 0).sum())
        inside.append(
            (
                found.hypervolume_gain.low <= gain <= found.hypervolume_gain.high,
                found.front_members.low <= members <= found.front_members.high,
            )
        )
        expected.append((found.hypervolume_gain.mean, found.front_members.mean))
        came.append((gain, members))
    assert (np.mean(inside, axis=0) >= 0.88).all(), "95 % intervals, one standard error is 0.03"
    ratio = np.mean(expected, axis=0) / np.mean(came, axis=0)
    assert (ratio > 0.7).all()
    assert (ratio < 2.5).all(), "an overestimate is safer: no search ends too early"


def test_a_forecast_reads_as_a_sentence() -> None:
    found = forecast_improvement(drawn(np.random.default_rng(1), 50), 20)
    assert isinstance(found, ImprovementForecast)
    assert str(found).startswith("another 20 candidates would add ")
    assert "% of hypervolume (" in str(found)
    assert " on the front (" in str(found)


@pytest.mark.parametrize(
    ("curve", "more", "message"),
    [
        ([0.1, 0.2], 0, "horizon must be 1 or more candidates, but got 0"),
        ([0.2, 0.1], 5, "must rise within 0..1"),
        ([-0.1, 0.1], 5, "must rise within 0..1"),
        ([0.5, 1.5], 5, "must rise within 0..1"),
    ],
)
def test_an_impossible_curve_or_horizon_is_refused(curve: list[float], more: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        forecast_improvement(curve, more)


def test_a_horizon_of_a_hundred_thousand_needs_little_memory() -> None:
    """Records that were written within moments of each other expect as many candidates in the next hour."""
    curve = np.linspace(0.1, 0.9, 40).tolist()
    forecast_improvement(curve, 100)
    tracemalloc.start()
    found = forecast_improvement(curve, 100_000)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 500e6, "an array of all draws takes 3.2 GB"
    assert found is not None
    assert found.front_members.high > 1000
    assert 0 <= found.hypervolume_gain.low <= found.hypervolume_gain.high <= 1 / 0.9 - 1 + 1e-9


def test_draws_in_blocks_agree_with_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    curve = drawn(np.random.default_rng(2), 80)
    whole = forecast_improvement(curve, 40)
    monkeypatch.setattr("nas.results.convergence.MAX_VALUES_AT_ONCE", 2000)
    blocks = forecast_improvement(curve, 40)
    assert whole is not None
    assert blocks is not None
    assert blocks.front_members == whole.front_members
    assert blocks.hypervolume_gain.mean == pytest.approx(whole.hypervolume_gain.mean, rel=0.15)
