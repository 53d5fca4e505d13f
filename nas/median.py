"""How sure a median of timed runs is: two intervals, one that knows of the machine's states and one at no cost."""

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.float64]

RESAMPLES = 1000
AT_ONCE = 1_000_000
"""Values drawn at once, so that many runs do not fill the memory."""
STRETCHES = 20
"""Stretches that runs are cut into where nothing says in which rounds they were made."""


def bootstrap_interval(times: Times, rounds: int | None = None) -> tuple[float, float]:
    """The 95 % percentile interval of the median, by a bootstrap in two stages: rounds, then runs within each.

    Runs of one round share the state the machine was in, so they tell less than as many independent ones; an interval
    that takes them for independent is too narrow. With one run a round it is the ordinary bootstrap.

    Source: Davison and Hinkley, Bootstrap Methods and their Application (1997), section 3.8. The resamples are drawn
    with a fixed seed: the same runs have the same interval.

    Args:
        times: milliseconds of each run, in the order of time [runs].
        rounds: equal stretches in which the runs were made; a rest that fills none counts for the median only.
    """
    rounds = rounds or min(len(times), STRETCHES)
    each = len(times) // rounds
    stretches = times[: rounds * each].reshape(rounds, each)
    random = np.random.default_rng(0)
    at_once, medians = max(1, AT_ONCE // len(times)), np.empty(RESAMPLES)
    for start in range(0, RESAMPLES, at_once):
        n = min(at_once, RESAMPLES - start)
        drawn = random.integers(rounds, size=(n, rounds, 1))
        runs = random.integers(each, size=(n, rounds, each))
        medians[start : start + n] = np.median(stretches[drawn, runs].reshape(n, -1), axis=1)
    median = float(np.median(times))
    low, high = (float(end) for end in np.percentile(medians, [2.5, 97.5]))
    return min(low, median), max(high, median)


def ranks_interval(times: Times) -> tuple[float, float]:
    """The 95 % interval of the median by order statistics: of any distribution, but of independent runs.

    Source: Conover, Practical Nonparametric Statistics, 3rd edition, section 3.2 (normal approximation of the ranks).

    Args:
        times: milliseconds of each run [runs].
    """
    ordered, n = np.sort(times), len(times)
    reach = 1.96 * np.sqrt(n) / 2
    low, high = int(np.floor(n / 2 - reach)), int(np.ceil(n / 2 + reach))
    return float(ordered[max(low - 1, 0)]), float(ordered[min(high, n - 1)])
