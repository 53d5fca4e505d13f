"""Intervals and quantiles: Wilson's of a share, Student's t, the normal distribution, two of a median of timed runs."""

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

TimesMs = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float64]

Z_95 = 1.959963984540054
"""Two-sided 95 % quantile of the standard normal distribution."""
STUDENT_T_975 = {1: 12.7062, 2: 4.3027, 3: 3.1824, 4: 2.7764}
"""97.5 % quantiles of Student's t; from 5 degrees on the expansion below is right to 0.003."""

RESAMPLES = 1000
MAX_VALUES_AT_ONCE = 1_000_000
"""Values drawn at once, so that many runs do not fill the memory."""
DEFAULT_ROUNDS = 20
"""Stretches that runs are cut into where nothing says in which rounds they were made."""


def bootstrap_median_interval(times_ms: TimesMs, n_rounds: int | None = None) -> tuple[float, float]:
    """The 95 % percentile interval of the median, by a bootstrap in two stages: rounds, then runs within each.

    Runs of one round share the state the machine was in, so they tell less than as many independent ones; an interval
    that takes them for independent is too narrow. With one run a round it is the ordinary bootstrap.

    Source: Davison and Hinkley, Bootstrap Methods and their Application (1997), section 3.8. The resamples are drawn
    with a fixed seed: the same runs have the same interval.

    Args:
        times_ms: milliseconds of each run, in the order of time [runs].
        n_rounds: equal stretches in which the runs were made; a rest that fills none counts for the median only.
    """
    n_rounds = n_rounds or min(len(times_ms), DEFAULT_ROUNDS)
    each = len(times_ms) // n_rounds
    stretches = times_ms[: n_rounds * each].reshape(n_rounds, each)
    random = np.random.default_rng(0)
    at_once, medians = max(1, MAX_VALUES_AT_ONCE // len(times_ms)), np.empty(RESAMPLES)
    for start in range(0, RESAMPLES, at_once):
        n = min(at_once, RESAMPLES - start)
        drawn = random.integers(n_rounds, size=(n, n_rounds, 1))
        runs = random.integers(each, size=(n, n_rounds, each))
        medians[start : start + n] = np.median(stretches[drawn, runs].reshape(n, -1), axis=1)
    median = float(np.median(times_ms))
    low, high = (float(end) for end in np.percentile(medians, [2.5, 97.5]))
    return min(low, median), max(high, median)


def rank_median_interval(times_ms: TimesMs) -> tuple[float, float]:
    """The 95 % interval of the median by order statistics: of any distribution, but of independent runs.

    Source: Conover, Practical Nonparametric Statistics, 3rd edition, section 3.2 (normal approximation of the ranks).

    Args:
        times_ms: milliseconds of each run [runs].
    """
    ordered, n = np.sort(times_ms), len(times_ms)
    reach = 1.96 * np.sqrt(n) / 2
    low, high = int(np.floor(n / 2 - reach)), int(np.ceil(n / 2 + reach))
    return float(ordered[max(low - 1, 0)]), float(ordered[min(high, n - 1)])


def wilson_interval(successes: int, n: int, *, z: float = Z_95) -> tuple[float, float]:
    """Wilson's interval of a share: (low, high), both in [0, 1], around `successes` of `n` trials.

    Raises:
        ValueError: not 0 <= hits <= n, or n is 0.
    """
    if not (0 <= successes <= n and n > 0):
        raise ValueError(f"an interval needs 0 <= hits <= n and n > 0, but got hits={successes}, n={n}")
    share, slack = successes / n, z * z / n
    centre = (share + slack / 2) / (1 + slack)
    half = z * math.sqrt(share * (1 - share) / n + slack / (4 * n)) / (1 + slack)
    # Rounding must not push the interval off the share itself at 0 and 1.
    return max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share))


def student_t_975(degrees_of_freedom: int) -> float:
    """97.5 % quantile of Student's t distribution with so many degrees of freedom, 1 or more.

    Expansion in 1 / freedom about the normal quantile (Abramowitz & Stegun 26.7.5).
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
    """Probability that a standard normal variable is at most so large; any shape, entry by entry."""
    return np.array([NormalDist().cdf(v) for v in values.ravel().tolist()]).reshape(values.shape)


def normal_quantile(share: float) -> float:
    """The value that a standard normal variable is below with this probability, 0 < share < 1."""
    return NormalDist().inv_cdf(share)
