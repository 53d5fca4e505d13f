"""Forecast of what further candidates add: hypervolume and front members, estimated from the run's own curve.

Improvements of the front are modelled as events of a power-law process, whose rate falls as the search goes on
(L. H. Crow, "Reliability Analysis for Complex, Repairable Systems", 1974): after t candidates there were about c * t^b
improvements, with 0 < b <= 1. The size of an improvement is resampled from those of the run and shrinks with time. The
unknowns (b, the number of improvements, the decay of their sizes) are drawn from their posteriors, so the interval of
a short run is wide.

The assumption that the rate does not rise holds for candidates drawn independently, because hypervolume is submodular
(Ulrich & Thiele, "Bounding the Effectiveness of Hypervolume-Based (mu + lambda)-Archiving Algorithms", LION 2012). A
sampler that reaches a new region of the space violates it for a while; no forecast from past improvements can see that.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

CONVERGENCE_THRESHOLD = 0.01
"""A search has converged where the upper end of the forecast gain is below this share of the hypervolume."""
N_DRAWS = 4000
MAX_VALUES_AT_ONCE = 1000 * N_DRAWS
"""Values in one array of draws (32 MB). A run whose records were written within moments of each other expects 100,000
candidates an hour and more, and one array of draws then took gigabytes. Up to 1,000 improvements a draw, all draws fit
into one block."""
INTERVAL_PERCENTILES = (2.5, 97.5)
"""Percentiles at the ends of the 95 % interval."""
BURN_IN_SHARE = 0.25
"""Share of the run at its start whose improvements are left out of the estimate of the rate at its end."""
GAIN_DECAY_PRIOR = (1.0, 0.7)
"""Mean and standard deviation of the normal prior of c in gain ~ t^-c; gains of candidates drawn independently fall
about as 1 / t."""
MIN_GAIN_SHARE = 1e-9
"""Gains up to this share of the hypervolume are rounding errors."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An expected value and its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class ImprovementForecast:
    """What a number of further candidates is expected to add.

    Attributes:
        horizon: number of further candidates.
        hypervolume_gain: hypervolume added, as a share of the present hypervolume.
        front_members: candidates that are on the front when they are found; later ones may displace them.
    """

    horizon: int
    hypervolume_gain: Interval
    front_members: Interval

    def __str__(self) -> str:
        gain, members = self.hypervolume_gain, self.front_members
        return (
            f"another {self.horizon} candidates would add {_format_percent(gain.mean)} of hypervolume "
            f"({_format_percent(gain.low)} to {_format_percent(gain.high)}) and put {members.mean:.1f} on the front "
            f"({members.low:.0f} to {members.high:.0f})"
        )


def forecast_improvement(curve: Sequence[float], horizon: int) -> ImprovementForecast | None:
    """Forecast from the hypervolume so far. The same curve gives the same forecast.

    Args:
        curve: hypervolume after each finished candidate, 0..1 of the largest possible; it never falls.
        horizon: number of further candidates, 1 or more.

    Returns:
        None until a candidate has finished after the first feasible one.

    Raises:
        ValueError: the curve falls or leaves 0..1, or `horizon` is below 1.
    """
    shares = np.asarray(curve, dtype=np.float64)
    if horizon < 1:
        raise ValueError(f"horizon must be 1 or more candidates, but got {horizon}")
    if len(shares) and not (
        shares[0] >= 0 and shares[-1] <= 1 + MIN_GAIN_SHARE and (np.diff(shares) >= -MIN_GAIN_SHARE).all()
    ):
        raise ValueError("a hypervolume curve must rise within 0..1, but this one falls or leaves that range")
    feasible = shares[shares > 0]
    n_observed = len(feasible) - 1
    if n_observed < 1:
        return None
    gains = np.diff(feasible) / feasible[-1]
    # The i-th candidate after the first feasible one occupies [i, i + 1); its middle keeps log(t) finite at i = 0.
    observed_at = np.flatnonzero(gains > MIN_GAIN_SHARE).astype(np.float64) + 0.5
    totals, counts = _simulate(observed_at, gains[gains > MIN_GAIN_SHARE], n_observed, horizon)
    totals = np.minimum(totals, 1 / feasible[-1] - 1)  # the whole box has hypervolume 1
    return ImprovementForecast(
        horizon=horizon, hypervolume_gain=_interval_of(totals), front_members=_interval_of(counts)
    )


def has_converged(curve: Sequence[float], horizon: int) -> bool:
    """Whether further candidates add less than `CONVERGENCE_THRESHOLD`, by the upper end of the forecast.

    All of these must hold:

    - The forecast is below the threshold now.
    - The forecast half a horizon ago was below it, too. A search that tests after each candidate stops at its luckiest
      moment, and an interval that is valid at a fixed moment is not valid at that one.
    - At least `horizon` candidates have finished since the first feasible one.

    Args:
        curve: as in `forecast_improvement`.
        horizon: number of further candidates, 1 or more.
    """
    if int((np.asarray(curve) > 0).sum()) - 1 < horizon:
        return False
    forecasts = (forecast_improvement(curve[: len(curve) - ago], horizon) for ago in (0, horizon // 2))
    return all(f is not None and f.hypervolume_gain.high < CONVERGENCE_THRESHOLD for f in forecasts)


def _simulate(
    observed_at: FloatArray, gains: FloatArray, n_observed: int, horizon: int
) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Total gain [N_DRAWS] and number of further improvements [N_DRAWS] of simulated continuations.

    Args:
        observed_at: times of the observed improvements, in candidates since the first feasible one [n].
        gains: their sizes, as shares of the hypervolume [n].
        n_observed: candidates since the first feasible one.
        horizon: number of further candidates.
    """
    rng = np.random.default_rng(0)
    exponents, counts = _draw_counts(observed_at, n_observed, horizon, rng)
    totals = np.empty(N_DRAWS)
    for rows in _blocks(counts):
        times = _draw_times(exponents[rows], counts[rows], n_observed, horizon, rng)
        totals[rows] = _draw_gains(observed_at, gains, times, rng).sum(axis=1)
    return totals, counts


def _blocks(counts: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """Rows to draw together: all where they fit into `MAX_VALUES_AT_ONCE`, else blocks of rows with similar counts."""
    rows_at_once = MAX_VALUES_AT_ONCE // max(1, int(counts.max()))
    if rows_at_once >= len(counts):
        return [np.arange(len(counts))]
    order = np.argsort(counts, kind="stable")  # a block is as wide as its largest count
    step = max(1, rows_at_once)
    return [order[start : start + step] for start in range(0, len(order), step)]


def _draw_counts(
    observed_at: FloatArray, n_observed: int, horizon: int, rng: np.random.Generator
) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Exponent b [N_DRAWS] and number of improvements within the horizon [N_DRAWS] of each draw.

    Of n improvements between t_0 and T the likelihood is b^n prod(t_i^(b - 1)) / (T^b - t_0^b)^n for b, with a flat
    prior on 0..1, and that of a Gamma(n + 1/2) for their number (Jeffreys' prior).
    """
    begin = BURN_IN_SHARE * n_observed
    logs = np.log(observed_at[observed_at > begin])
    # 100 values suffice: after the few dozen improvements of a search, the posterior of b is far wider than 0.01.
    b = np.linspace(0.0, 1.0, 101)[1:]
    span = n_observed**b - begin**b
    log_likelihood = len(logs) * (np.log(b) - np.log(span)) + (b - 1) * logs.sum()
    weights = np.exp(log_likelihood - log_likelihood.max())  # the largest is 1: no overflow
    chosen = rng.choice(len(b), size=N_DRAWS, p=weights / weights.sum())
    b, span = b[chosen], span[chosen]
    further = (n_observed + horizon) ** b - n_observed**b
    # The expected number scales with the growth of t^b; a candidate brings at most one improvement.
    counts = np.minimum(rng.poisson(rng.gamma(len(logs) + 0.5, size=N_DRAWS) * further / span), horizon)
    return b, counts


def _draw_times(
    exponents: FloatArray, counts: npt.NDArray[np.int64], n_observed: int, horizon: int, rng: np.random.Generator
) -> FloatArray:
    """Times of further improvements [rows, largest count], after `n_observed`; infinite beyond a row's count.

    Given their number, the times are independent with density proportional to t^(b - 1): the inverse of its
    distribution function is applied to uniform draws.
    """
    uniform = rng.random((len(counts), max(1, int(counts.max()))))
    b = exponents[:, None]
    further = (n_observed + horizon) ** b - n_observed**b
    times = (n_observed**b + uniform * further) ** (1 / b)
    return np.where(np.arange(times.shape[1]) < counts[:, None], times, np.inf)


def _draw_gains(observed_at: FloatArray, gains: FloatArray, times: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Gains at `times` [rows, columns], as shares of the hypervolume: gains of the run, shrunk by the time between.

    Sizes fall as t^-c. c comes from the regression of ln(gain) on ln(t), with the normal prior `GAIN_DECAY_PRIOR`.
    """
    if not len(observed_at):
        # Only the first feasible candidate improved the front, so the size of an improvement is unknown: 100 % each.
        return np.isfinite(times).astype(np.float64)
    x, y = np.log(observed_at), np.log(gains)
    mean, deviation = GAIN_DECAY_PRIOR
    slope = _regression_slope(x, y)
    x_squares = float(((x - x.mean()) ** 2).sum())
    # Two points lie on their regression line exactly, so its residuals say nothing about the noise.
    residuals = y - y.mean() - (slope * (x - x.mean()) if len(observed_at) >= 3 else 0.0)
    noise = float((residuals**2).mean())
    # A floor of 0.25 (a factor of 1.6 in gain) keeps few points that happen to lie on a line from fixing c.
    weight = x_squares / max(noise, 0.25)
    precision = weight + deviation**-2
    c_mean = (mean * deviation**-2 - weight * slope) / precision
    c = c_mean + rng.normal(size=len(times)) / np.sqrt(precision)
    sampled = rng.integers(len(observed_at), size=times.shape)
    # Smoothed bootstrap with the usual n^(-1/5) bandwidth: gains larger than any so far occur, and the mean stays.
    width = np.sqrt(noise) * len(observed_at) ** -0.2
    blur = np.exp(width * rng.normal(size=times.shape) - width**2 / 2)
    decay = (observed_at[sampled] / times) ** np.maximum(c, 0.0)[:, None]
    # Columns beyond a row's count have infinite times; where c is 0 their decay would be 1 instead of 0.
    return np.asarray(gains[sampled] * blur * np.where(np.isfinite(times), decay, 0.0))


def _regression_slope(x: FloatArray, y: FloatArray) -> float:
    """Least-squares slope of y on x; 0 where x is constant."""
    spread = ((x - x.mean()) ** 2).sum()
    return float(((x - x.mean()) * (y - y.mean())).sum() / spread) if spread else 0.0


def _interval_of(draws: npt.NDArray[np.float64] | npt.NDArray[np.int64]) -> Interval:
    low, high = np.percentile(draws, INTERVAL_PERCENTILES)
    return Interval(mean=float(draws.mean()), low=float(low), high=float(high))


def _format_percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}" if share >= 0.001 or not share else f"{share:.2%}"
