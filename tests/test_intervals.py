"""Intervals and quantiles, against scipy, published values and their own coverage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nas.intervals import (
    MAX_VALUES_AT_ONCE,
    STUDENT_T_975,
    Z_95,
    bootstrap_median_interval,
    normal_cdf,
    normal_quantile,
    rank_median_interval,
    student_t_975,
    wilson_interval,
)


def test_the_normal_distribution_equals_scipy() -> None:
    values = np.linspace(-8, 8, 101).reshape(1, 101)
    np.testing.assert_allclose(normal_cdf(values), stats.norm.cdf(values), rtol=1e-9, atol=1e-15)
    assert normal_cdf(np.empty((0, 3))).shape == (0, 3)
    shares = np.linspace(0.001, 0.999, 57)
    np.testing.assert_allclose([normal_quantile(p) for p in shares], stats.norm.ppf(shares), atol=1e-9)
    assert pytest.approx(stats.norm.ppf(0.975), abs=1e-12) == Z_95


@pytest.mark.parametrize("share", [-0.1, 0.0, 1.0, 1.1])
def test_a_quantile_needs_a_share_within_0_and_1(share: float) -> None:
    with pytest.raises(ValueError, match="must be in the range"):
        normal_quantile(share)


def test_student_t_equals_scipy() -> None:
    for freedom in (*range(1, 40), 100, 1000):
        error = abs(student_t_975(freedom) - stats.t.ppf(0.975, freedom))
        assert error < (1e-4 if freedom in STUDENT_T_975 else 0.003)


@given(n=st.integers(1, 10_000), data=st.data())
def test_wilson_equals_scipy(n: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, n))
    expected = stats.binomtest(successes, n).proportion_ci(method="wilson")
    assert wilson_interval(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_wilson_equals_published_values() -> None:
    # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3: 81/263, 15/148, 0/20, 1/29.
    for successes, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


@given(n=st.integers(1, 10_000), data=st.data())
def test_wilson_solves_its_own_equation(n: int, data: st.DataObject) -> None:
    """Both ends p satisfy |share - p| = z sqrt(p (1 - p) / n), Wilson's definition."""
    successes = data.draw(st.integers(1, n))
    low, high = wilson_interval(successes, n)
    for end in (low, high):
        if 0 < end < 1:
            assert abs(successes / n - end) == pytest.approx(
                1.959964 * (end * (1 - end) / n) ** 0.5, rel=1e-4, abs=1e-9
            )
    mirrored = wilson_interval(n - successes, n)
    assert (1 - high, 1 - low) == pytest.approx(mirrored, abs=1e-12)


@pytest.mark.parametrize(("successes", "n"), [(1, 0), (-1, 3), (4, 3)])
def test_wilson_refuses_what_is_not_a_share(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="an interval needs 0 <= successes <= n"):
        wilson_interval(successes, n)


def test_ranks_equal_the_textbook() -> None:
    # Conover's ranks for n = 100 are 40 and 61, counted from 1.
    assert rank_median_interval(np.random.default_rng(0).permutation(100).astype(np.float64) + 1) == (40, 61)


def test_ranks_cover_the_median_as_the_exact_binomial_interval_of_scipy() -> None:
    for n in (100, 300, 1000):  # of fewer runs the steps of the binomial distribution are coarse
        low, high = rank_median_interval(np.arange(1.0, n + 1))
        # Coverage of the order statistics of these ranks: P(low <= B < high) for B binomial (n, 1/2).
        coverage = stats.binom.cdf(high - 1, n, 0.5) - stats.binom.cdf(low - 1, n, 0.5)
        assert 0.95 <= coverage <= 0.97


def test_the_bootstrap_of_independent_runs_equals_scipy() -> None:
    times_ms = np.random.default_rng(0).lognormal(0, 0.3, 200)
    expected = stats.bootstrap((times_ms,), np.median, method="percentile", n_resamples=20_000, rng=1)
    low, high = bootstrap_median_interval(times_ms, n_rounds=len(times_ms))
    # Two independent sets of resamples: the ends of 1000 of them vary by about a tenth of the width.
    width = expected.confidence_interval.high - expected.confidence_interval.low
    assert low == pytest.approx(expected.confidence_interval.low, abs=0.15 * width)
    assert high == pytest.approx(expected.confidence_interval.high, abs=0.15 * width)


@pytest.mark.parametrize(
    ("interval", "repeats"),
    [(rank_median_interval, 1000), (bootstrap_median_interval, 200)],
    ids=["ranks", "bootstrap"],
)
def test_intervals_cover_the_true_median_in_about_95_percent(interval, repeats) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)
    intervals = [interval(rng.lognormal(0, 1, 200)) for _ in range(repeats)]
    assert 0.92 <= np.mean([low <= 1 <= high for low, high in intervals]) <= 0.99


def test_correlated_runs_of_a_round_widen_the_bootstrap_only() -> None:
    rng = np.random.default_rng(0)
    covered: dict[str, list[bool]] = {"bootstrap": [], "ranks": []}
    for _ in range(200):
        states = rng.normal(1, 0.02, (15, 1))  # of the machine, one in each round
        times_ms = (states + rng.normal(0, 0.005, (15, 20))).ravel()
        for name, (low, high) in {
            "bootstrap": bootstrap_median_interval(times_ms, 15),
            "ranks": rank_median_interval(times_ms),
        }.items():
            covered[name].append(low <= 1 <= high)
    assert np.mean(covered["bootstrap"]) >= 0.9
    assert np.mean(covered["ranks"]) < 0.6


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=60), st.integers(1, 60))
def test_the_interval_contains_the_median_and_lies_within_the_runs(times: list[float], rounds: int) -> None:
    times_ms = np.array(times)
    low, high = bootstrap_median_interval(times_ms, min(rounds, len(times)))
    assert min(times) <= low <= np.median(times_ms) <= high <= max(times)


def test_the_same_runs_have_the_same_interval_in_one_chunk_or_several() -> None:
    times_ms = np.random.default_rng(0).lognormal(0, 0.1, MAX_VALUES_AT_ONCE // 250)
    assert bootstrap_median_interval(times_ms, 10) == bootstrap_median_interval(times_ms.copy(), 10)
    low, high = bootstrap_median_interval(times_ms, len(times_ms))
    assert 0.98 < low < 1 < high < 1.02


def test_a_single_run_is_its_own_interval() -> None:
    assert bootstrap_median_interval(np.array([2.0])) == (2.0, 2.0)
