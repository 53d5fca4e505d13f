"""Intervals and quantiles: Wilson's interval of a share, Student's t, the normal distribution, intervals of a median.

Everything statistical that several packages need is here. tests/test_intervals.py compares it with scipy, which the
package does not require at run time.
"""

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

TimesMs = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float64]

Z_95 = 1.959963984540054
"""Two-sided 95 % quantile of the standard normal distribution."""
STUDENT_T_975 = {1: 12.7062, 2: 4.3027, 3: 3.1824, 4: 2.7764}
"""97.5 % quantiles of Student's t for 1 to 4 degrees of freedom, where the expansion in `student_t_975` is too rough;
from 5 on it is right to 0.003."""

RESAMPLES = 1000
"""Bootstrap resamples, enough for the second digit of a 95 % interval's half width."""
MAX_VALUES_AT_ONCE = 1_000_000
"""Resampled values held in memory at once: 8 MB of float64."""
DEFAULT_ROUNDS = 20
"""Rounds that runs are divided into where nothing says in which rounds they were made."""


def bootstrap_median_interval(times_ms: TimesMs, n_rounds: int | None = None) -> tuple[float, float]:
    """95 % percentile interval of the median, by a two-stage bootstrap: first rounds, then runs within each round.

    Runs of one round share the state of the machine, so they carry less information than as many independent runs; an
    interval that takes them for independent is too narrow. With one run a round it is the ordinary bootstrap.

    Source: Davison and Hinkley, Bootstrap Methods and their Application (1997), section 3.8. The resamples are drawn
    with a fixed seed: the same runs give the same interval.

    Args:
        times_ms: milliseconds of each run, in order of time [runs].
        n_rounds: number of rounds of equal length in which the runs were made; None takes 20, or one for each of
            fewer runs. Runs left over at the end count for the median only.

    Returns:
        Lower and upper end in milliseconds; the median lies between them.

    Examples:
        >>> times_ms = np.array([1.0, 1.1, 1.0, 1.2, 1.1, 1.0])
        >>> bootstrap_median_interval(times_ms, n_rounds=3)
        (1.0, 1.2)
    """
    n_rounds = n_rounds or min(len(times_ms), DEFAULT_ROUNDS)
    runs_per_round = len(times_ms) // n_rounds
    by_round = times_ms[: n_rounds * runs_per_round].reshape(n_rounds, runs_per_round)
    rng = np.random.default_rng(0)
    chunk, medians = max(1, MAX_VALUES_AT_ONCE // len(times_ms)), np.empty(RESAMPLES)
    for start in range(0, RESAMPLES, chunk):
        n = min(chunk, RESAMPLES - start)
        rounds = rng.integers(n_rounds, size=(n, n_rounds, 1))
        runs = rng.integers(runs_per_round, size=(n, n_rounds, runs_per_round))
        medians[start : start + n] = np.median(by_round[rounds, runs].reshape(n, -1), axis=1)
    # The percentiles of the medians of few runs, or of rounds without the last runs, can miss the median of all runs.
    median = float(np.median(times_ms))
    low, high = (float(end) for end in np.percentile(medians, [2.5, 97.5]))
    return min(low, median), max(high, median)


def rank_median_interval(times_ms: TimesMs) -> tuple[float, float]:
    """95 % interval of the median by order statistics: for any distribution, but for independent runs.

    Source: Conover, Practical Nonparametric Statistics, 3rd edition, section 3.2 (normal approximation of the ranks).

    Args:
        times_ms: milliseconds of each run [runs].

    Returns:
        Lower and upper end in milliseconds; for few runs, the fastest and the slowest.

    Examples:
        >>> rank_median_interval(np.arange(1.0, 101.0))
        (40.0, 61.0)
    """
    ordered, n = np.sort(times_ms), len(times_ms)
    # The number of runs below the true median is binomial (n, 1/2), with standard deviation sqrt(n) / 2.
    half = 1.96 * np.sqrt(n) / 2
    low, high = int(np.floor(n / 2 - half)), int(np.ceil(n / 2 + half))
    return float(ordered[max(low - 1, 0)]), float(ordered[min(high, n - 1)])


def wilson_interval(successes: int, n: int, *, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval of a share (E. B. Wilson, JASA 22, 1927), which holds near 0 and 1 and for small n too.

    Args:
        successes: number of successes, such as images classified correctly.
        n: number of trials, 1 or more.
        z: quantile of the standard normal distribution; 95 % by default.

    Returns:
        Lower and upper end, both in [0, 1]; the share itself lies between them.

    Raises:
        ValueError: not 0 <= successes <= n, or n is 0.

    Examples:
        >>> low, high = wilson_interval(80, 100)
        >>> round(low, 3), round(high, 3)
        (0.711, 0.867)
    """
    if not (0 <= successes <= n and n > 0):
        raise ValueError(f"an interval needs 0 <= successes <= n and n > 0, but got successes={successes}, n={n}")
    share, slack = successes / n, z * z / n
    centre = (share + slack / 2) / (1 + slack)
    half = z * math.sqrt(share * (1 - share) / n + slack / (4 * n)) / (1 + slack)
    # Rounding must not move the interval off the share itself at 0 and 1.
    return max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share))


def student_t_975(degrees_of_freedom: int) -> float:
    """97.5 % quantile of Student's t distribution, the half width of a 95 % interval in standard errors.

    Expansion in 1 / degrees of freedom about the normal quantile (Abramowitz and Stegun 26.7.5).

    Args:
        degrees_of_freedom: 1 or more.

    Examples:
        >>> round(student_t_975(10), 3)
        2.228
    """
    if degrees_of_freedom in STUDENT_T_975:
        return STUDENT_T_975[degrees_of_freedom]
    z, v = Z_95, float(degrees_of_freedom)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / v**k for k, term in enumerate(terms, start=1))


def normal_cdf(values: Floats) -> Floats:
    """Cumulative distribution function of the standard normal distribution, for each entry of an array of any shape.

    Examples:
        >>> normal_cdf(np.array([0.0, Z_95])).tolist()
        [0.5, 0.975]
    """
    return np.array([NormalDist().cdf(v) for v in values.ravel().tolist()]).reshape(values.shape)


def normal_quantile(share: float) -> float:
    """Quantile of the standard normal distribution, 0 < share < 1.

    Raises:
        ValueError: the share is not within (0, 1); raised as `statistics.StatisticsError`.

    Examples:
        >>> round(normal_quantile(0.975), 3)
        1.96
    """
    return NormalDist().inv_cdf(share)
