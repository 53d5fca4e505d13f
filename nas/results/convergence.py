"""What further candidates would bring: expected gain in hypervolume and new members of the front, by the run's own.

Improvements of the front are taken for events of a power-law process, whose rate falls as the search goes on
(L. H. Crow, "Reliability Analysis for Complex, Repairable Systems", 1974): after t candidates there were about c * t^b,
with 0 < b <= 1. Each brings a gain like the run's own, late ones counting most. What is not known of c, b and the gains
is drawn, so a short run says little, and says so.

That the rate does not rise holds for candidates drawn independently, since hypervolume is submodular (Ulrich & Thiele,
"Bounding the Effectiveness of Hypervolume-Based (mu + lambda)-Archiving Algorithms", LION 2012). A sampler that comes
upon a new region breaks it for a while; no forecast from the past sees that coming.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

CONVERGENCE_THRESHOLD = 0.01
"""Share of the hypervolume: a search whose further gain is below it, at the upper end, is flat."""
N_DRAWS = 4000
INTERVAL_PERCENTILES = (2.5, 97.5)
"""Percentiles at the ends of the 95 % interval."""
BURN_IN_SHARE = 0.25
"""Improvements in this first share of the run say nothing of the rate at its end."""
GAIN_DECAY_PRIOR = (1.0, 0.7)
"""Mean and deviation of the prior of c: of candidates drawn independently, gains fall about as 1 / t."""
MIN_GAIN_SHARE = 1e-9
"""Gains below it, as a share of the hypervolume, are rounding."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An expected value and its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class ImprovementForecast:
    """What so many further candidates would bring.

    Attributes:
        candidates: how many further ones.
        gain: hypervolume added, as a share of what there is.
        members: candidates that will be on the front when they come; some of them displace others.
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
    """What further candidates would bring, by the hypervolume so far. The same curve gives the same answer.

    Args:
        curve: hypervolume after each finished candidate, 0..1 of what is possible; it never falls.
        horizon: how many further ones, 1 or more.

    Returns:
        None as long as nothing feasible was found, or only the last candidate was.

    Raises:
        ValueError: the curve falls or leaves 0..1, or `horizon` is below 1.
    """
    shares = np.asarray(curve, dtype=np.float64)
    if horizon < 1:
        raise ValueError(f"candidates must be 1 or more, but got {horizon}")
    if len(shares) and not (
        shares[0] >= 0 and shares[-1] <= 1 + MIN_GAIN_SHARE and (np.diff(shares) >= -MIN_GAIN_SHARE).all()
    ):
        raise ValueError("a curve of hypervolume must rise from 0 or more to at most 1, but this one does not")
    found = shares[shares > 0]
    after = len(found) - 1
    if after < 1:
        return None
    gains = np.diff(found) / found[-1]
    at = np.flatnonzero(gains > MIN_GAIN_SHARE).astype(np.float64) + 0.5
    rng = np.random.default_rng(0)
    times = _draw_improvement_times(at, after, horizon, rng)
    sizes = _draw_gains(at, gains[gains > MIN_GAIN_SHARE], times, rng)
    totals = np.minimum(sizes.sum(axis=1), 1 / found[-1] - 1)
    counts = np.isfinite(times).sum(axis=1)
    return ImprovementForecast(
        horizon=horizon, hypervolume_gain=_interval_of(totals), front_members=_interval_of(counts)
    )


def has_converged(curve: Sequence[float], horizon: int) -> bool:
    """Whether so many further candidates would hardly gain anything: less than `CONVERGENCE_THRESHOLD`, at the upper end.

    That must have been so half as many candidates ago, too: who asks after each one stops at the luckiest moment, and
    an interval that holds at any one moment does not hold at that one. Never before as many candidates have come since
    the first feasible one, and never without a feasible one.

    Args:
        curve: as in `outlook`.
        horizon: how many further ones, 1 or more.
    """
    since = int((np.asarray(curve) > 0).sum()) - 1
    if since < horizon:
        return False
    looks = (forecast_improvement(curve[: len(curve) - ago], horizon) for ago in (0, horizon // 2))
    return all(found is not None and found.hypervolume_gain.high < CONVERGENCE_THRESHOLD for found in looks)


def _draw_improvement_times(
    observed_at: FloatArray, n_observed: int, horizon: int, rng: np.random.Generator
) -> FloatArray:
    """When the further improvements come [DRAWS, most of them], later than `n_observed`; infinite where there are fewer.

    Of n improvements between t_0 and T the likelihood is b^n prod(t_i^(b - 1)) / (T^b - t_0^b)^n for b, with a flat
    prior on 0..1, and that of a Gamma(n + 1/2) for their number (Jeffreys' prior).
    """
    begin = BURN_IN_SHARE * n_observed
    logs = np.log(observed_at[observed_at > begin])
    b = np.linspace(0.0, 1.0, 101)[1:]
    span = n_observed**b - begin**b
    likely = len(logs) * (np.log(b) - np.log(span)) + (b - 1) * logs.sum()
    chosen = rng.choice(len(b), size=N_DRAWS, p=np.exp(likely - likely.max()) / np.exp(likely - likely.max()).sum())
    b, span = b[chosen], span[chosen]
    more = (n_observed + horizon) ** b - n_observed**b
    counts = np.minimum(rng.poisson(rng.gamma(len(logs) + 0.5, size=N_DRAWS) * more / span), horizon)
    # Given their number, they are independent, with the process's density.
    uniform = rng.random((N_DRAWS, max(1, int(counts.max()))))
    times = (n_observed ** b[:, None] + uniform * more[:, None]) ** (1 / b[:, None])
    return np.where(np.arange(times.shape[1]) < counts[:, None], times, np.inf)


def _draw_gains(observed_at: FloatArray, gains: FloatArray, times: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Gains at `times`, as shares of the hypervolume: gains of the run, made smaller by the time between.

    Sizes fall as t^-c. c comes from the regression of ln(gain) on ln(t), with a normal prior of `GAIN_DECAY_PRIOR`.
    """
    if not len(observed_at):  # nothing but the first: what an improvement is worth is unknown
        return np.isfinite(times).astype(np.float64)
    x, y = np.log(observed_at), np.log(gains)
    mean, deviation = GAIN_DECAY_PRIOR
    spread = float(((x - x.mean()) ** 2).sum())
    noise = (
        float(y.var())
        if len(observed_at) < 3
        else float(((y - y.mean() - _regression_slope(x, y) * (x - x.mean())) ** 2).mean())
    )
    weight = spread / max(noise, 0.25)
    precision = weight + deviation**-2
    c = (mean * deviation**-2 - weight * _regression_slope(x, y)) / precision + rng.normal(size=N_DRAWS) / np.sqrt(
        precision
    )
    of = rng.integers(len(observed_at), size=times.shape)
    width = np.sqrt(noise) * len(observed_at) ** -0.2
    blur = np.exp(width * rng.normal(size=times.shape) - width**2 / 2)  # of mean 1: larger gains than seen do occur
    return np.asarray(gains[of] * blur * (observed_at[of] / times) ** np.maximum(c, 0.0)[:, None])


def _regression_slope(x: FloatArray, y: FloatArray) -> float:
    spread = ((x - x.mean()) ** 2).sum()
    return float(((x - x.mean()) * (y - y.mean())).sum() / spread) if spread else 0.0


def _interval_of(draws: FloatArray) -> Interval:
    low, high = np.percentile(draws, INTERVAL_PERCENTILES)
    return Interval(mean=float(draws.mean()), low=float(low), high=float(high))


def _format_percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}" if share >= 0.001 or not share else f"{share:.2%}"
