"""Guesses of what a net costs, learned from the nets of one search: a sum of non-negative costs, and what is left over.

    cost = columns . prices * exp(traits . weights),  prices >= 0

The prices begin with rough ones whose scale is learned first, and leave them as far as the examples ask for (ridge).
What the sum leaves over is learned in the logarithm by Bayesian ridge regression, its strength chosen by generalised
cross-validation (Golub, Heath & Wahba 1979, https://doi.org/10.1080/00401706.1979.10489751), which also says how far to
trust a guess. A fit takes some milliseconds. The final word has always the file itself.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hw_profiles._base import HardwareProfile
from nas.latency.predicted.nnls import nonnegative
from nas.searcher.acquisition.candidate_features import COLUMNS, WIDTHS
from nas.searcher.acquisition.subsample import some

Floats = npt.NDArray[np.float64]

UNSURE = 0.7
"""Standard deviation of the logarithm before anything is learned."""
STIFFNESS = 1.0
"""How many examples it takes to move a price as far from its first value as from 0."""
LEAST_DEVIATION = 0.01
LEAST_LEFT_OVER = 8
"""Examples from which what is left over is learned too."""
MOST = 300
"""Examples that are learned from: half the newest, half spread over the others."""
STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
EFFICIENCY = {"dense_macs": 0.4, "pointwise_macs": 0.3, "depthwise_macs": 0.08}
"""Share of the peak rate that kernels reach, where a profile does not say."""
_KINDS = {"dense_macs": "conv", "pointwise_macs": "pointwise", "depthwise_macs": "depthwise"}


@dataclass(frozen=True, kw_only=True)
class CostGuess:
    """Mean [n] and standard deviation [n] of the logarithm of a cost."""

    mean: Floats
    deviation: Floats


Guesser = Callable[[Floats, Floats], CostGuess]
"""(columns [n, c], traits [n, d]) to a guess."""


def learn_costs(columns: Floats, traits: Floats, values: Floats, *, prices: Floats) -> Guesser:
    """A guesser of costs.

    Args:
        columns: [n, c] of the examples, 0 or more; n may be 0.
        traits: [n, d] of the examples.
        values: [n] their costs, positive.
        prices: [c] rough ones, positive; only their proportions count once there is an example.
    """
    if not len(values):
        return lambda c, _: CostGuess(mean=np.log(c @ prices), deviation=np.full(len(c), UNSURE))
    rows = some(np.arange(len(values)), MOST)
    columns, traits, values = columns[rows], traits[rows], values[rows]
    found = _prices(columns, values, prices * float(np.median(values / (columns @ prices))))
    rest = np.log(values) - np.log(columns @ found)
    left_over = _left_over(traits, rest, used=int((columns.any(axis=0) & (found > 0)).sum()))

    def guess(c: Floats, t: Floats) -> CostGuess:
        more = left_over(t)
        return CostGuess(mean=np.log(c @ found) + more.mean, deviation=more.deviation)

    return guess


def _prices(columns: Floats, values: Floats, centre: Floats) -> Floats:
    """[c] Prices of least relative error, held back by their first values; what no example has keeps its own."""
    relative = columns * centre / values[:, None]  # [n, c] shares of each value, in multiples of the first prices
    used = relative.any(axis=0)
    pull = np.sqrt(STIFFNESS) * np.maximum(relative.mean(axis=0), 1e-6)[used]
    matrix = np.concatenate([relative[:, used], np.diag(pull)])  # [n + c, c]
    found = centre.copy()
    found[used] *= nonnegative(matrix, np.concatenate([np.ones(len(values)), pull]))
    return np.asarray(np.maximum(found, 1e-9 * centre))


def _left_over(traits: Floats, rest: Floats, *, used: int) -> Callable[[Floats], CostGuess]:
    """A guesser of what the sum leaves over, in the logarithm."""
    n = len(rest)
    if n < LEAST_LEFT_OVER:
        deviation = max(LEAST_DEVIATION, UNSURE / np.sqrt(1 + n), float(rest.std()))
        return lambda t: CostGuess(mean=np.zeros(len(t)), deviation=np.full(len(t), deviation))
    centre, spread = traits.mean(axis=0), traits.std(axis=0)
    keep = spread > 1e-9
    z = (traits[:, keep] - centre[keep]) / spread[keep]
    mean = float(rest.mean())
    left, sizes, right = np.linalg.svd(z, full_matrices=False)
    turned = left.T @ (rest - mean)
    strength = min(STRENGTHS, key=lambda s: _validated(sizes, turned, rest - mean, s))
    shrunk = sizes**2 / (sizes**2 + strength)
    weights = right.T @ (turned * shrunk / np.maximum(sizes, 1e-12))
    free = max(1.0, n - 1 - float(shrunk.sum()) - min(used, n // 3))
    noise = float(((rest - mean - z @ weights) ** 2).sum()) / free
    least = LEAST_DEVIATION + UNSURE / (1 + n)  # a few nets that agree say little of the next

    def guess(t: Floats) -> CostGuess:
        asked = (t[:, keep] - centre[keep]) / spread[keep]
        inside = ((asked @ right.T) ** 2 / (sizes**2 + strength)).sum(axis=1)
        outside = np.maximum((asked**2).sum(axis=1) - ((asked @ right.T) ** 2).sum(axis=1), 0.0) / strength
        deviation = np.sqrt(noise * (1 + 1 / n + inside + outside) + least**2)
        return CostGuess(mean=mean + asked @ weights, deviation=np.minimum(deviation, UNSURE))

    return guess


def _validated(sizes: Floats, turned: Floats, rest: Floats, strength: float) -> float:
    """The generalised cross-validation score of a ridge, less is better."""
    shrunk = sizes**2 / (sizes**2 + strength)
    residual = float((rest**2).sum() - (turned**2).sum() + (((1 - shrunk) * turned) ** 2).sum())
    return residual / max(1e-3, 1 - (1 + float(shrunk.sum())) / len(rest)) ** 2


def latency_prices(profile: HardwareProfile) -> Floats:
    """[c] Rough milliseconds of one unit of each column on a device, by the facts of its profile."""
    model = profile.latency
    floor_us = model.floor_us if model else 3.0
    efficiency = model.efficiency if model else {}
    found = {"fixed": 1e-3 * (floor_us + (model.fixed_us if model else 10.0))}  # the softmax is in every file
    for bits in WIDTHS:
        wider = [b for b in profile.peak_gops if b >= bits] or [max(profile.peak_gops)]
        gops, byte_ms = profile.peak_gops[min(wider)], 1e-6 / profile.bandwidth_gb_s
        for part, usual in EFFICIENCY.items():
            found[f"{part}{bits}"] = 2e-6 / (gops * efficiency.get(_KINDS[part], usual))
        for part in ("dense", "pointwise", "depthwise", "moving"):
            found[f"{part}{bits}"] = 1e-3 * floor_us
        for part in ("elements", "moved", "weights"):
            found[f"{part}{bits}"] = byte_ms * bits / 8
    return _positive(found)


def size_prices() -> Floats:
    """[c] Rough bytes of one unit of each column in a file: weights, what stands for a channel, and a node's own."""
    found = {"fixed": 3000.0}
    for bits in WIDTHS:
        found |= {f"weights{bits}": bits / 8, f"channels{bits}": 4.0 + 5.0 * (bits == 8)}
        found |= {f"{part}{bits}": 300.0 for part in ("dense", "pointwise", "depthwise", "moving")}
    return _positive(found)


def _positive(prices: dict[str, float]) -> Floats:
    """The prices of all columns; those without one have hardly any."""
    least = 1e-6 * min(prices.values())
    return np.array([prices.get(name, least) for name in COLUMNS])
