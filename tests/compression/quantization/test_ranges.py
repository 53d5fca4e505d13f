"""How ranges are calibrated: each method against numpy and against what it is for."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nas.compression.quantization.calibration import BINS, OUTSIDE, entropy, percentile
from nas.compression.quantization.ranges import METHODS, Range
from nas.errors import ExportError


def seen(values: torch.Tensor) -> Range:
    found = Range()
    for part in values.split(20_000):
        found.see(part)
    for part in values.split(20_000):
        found.count(part)
    return found


def drawn(seed: int = 0, count: int = 100_000) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


def width(found: Range, method: str, *, signed: bool = False) -> float:
    grid = found.grid(signed=signed, method=method)
    return grid.scale * (grid.high - grid.low)


def mean_square(values: torch.Tensor, found: Range, method: str) -> float:
    return float((found.grid(signed=False, method=method)(values) - values).square().mean())


@pytest.mark.parametrize("signed", [False, True])
def test_minmax_cuts_nothing_off(signed: bool) -> None:
    values = drawn()
    grid = seen(values).grid(signed=signed, method="minmax")
    assert float((grid(values) - values).abs().max()) <= grid.scale * (0.5 if signed else 1.0) + 1e-6


def test_percentile_is_numpys() -> None:
    values = drawn().relu()
    low, high = percentile(seen(values)._counted(with_zeros=True), 0.0, float(values.max()), 256)
    assert low == 0
    assert high == pytest.approx(np.quantile(values, 1 - OUTSIDE), abs=2 * float(values.max()) / BINS)


@given(st.integers(0, 1000), st.floats(-5, 0), st.floats(0.1, 5))
def test_percentile_leaves_few_values_outside(seed: int, low: float, high: float) -> None:
    counts = np.random.default_rng(seed).integers(0, 100, BINS).astype(float)
    new_low, new_high = percentile(counts, low, high, 256)
    assert low - 1e-9 <= new_low <= 0 <= new_high <= high + 1e-9
    edges = np.linspace(low, high, BINS + 1)
    assert counts[edges[1:] <= new_low - 1e-9].sum() <= OUTSIDE * counts.sum()
    assert counts[edges[:-1] >= new_high + 1e-9].sum() <= OUTSIDE * counts.sum()


def test_percentile_and_entropy_cut_one_value_far_away_off() -> None:
    """The squared error does not: here 35 squared, once, is more than wide levels cost all the others."""
    values = torch.cat([drawn().relu(), torch.tensor([40.0])])
    found = seen(values)
    assert width(found, "minmax") == pytest.approx(40, rel=0.01)
    assert width(found, "mse") == pytest.approx(40, rel=0.01)
    assert width(found, "entropy") < 6
    assert width(found, "percentile") == pytest.approx(float(np.quantile(values, 1 - OUTSIDE)), rel=0.01)


def test_a_uniform_range_is_kept_whole() -> None:
    values = torch.rand(200_000, generator=torch.Generator().manual_seed(0))
    assert all(width(seen(values), method) == pytest.approx(1, abs=0.02) for method in METHODS)


def test_the_least_square_is_least() -> None:
    values = torch.cat([drawn(), drawn(1, 200) * 8])
    found = seen(values)
    errors = {method: mean_square(values, found, method) for method in METHODS}
    assert errors["mse"] <= min(errors["minmax"], errors["entropy"], errors["percentile"]) * 1.05


def test_the_least_divergence_is_that_of_a_slow_twin() -> None:
    """Loops over levels and bins, as the method is described."""
    rng = np.random.default_rng(0)
    counts, _ = np.histogram(np.abs(rng.laplace(size=50_000)), BINS, (0, 12))
    counts = counts.astype(float)

    def slow(end: int, levels: int) -> float:
        p = counts[:end].copy()
        p[-1] += counts[end:].sum()
        q = np.zeros(end)
        members = [[i for i in range(end) if i * levels // end == k and counts[i] > 0] for k in range(levels)]
        for group in members:
            for i in group:
                q[i] = sum(counts[j] for j in group) / len(group)
        p, q = (x / x.sum() + 1e-4 / end for x in (p, q))
        p, q = p / p.sum(), q / q.sum()
        return float(sum(a * np.log(a / b) for a, b in zip(p, q, strict=True)))

    _, high = entropy(counts, 0.0, 12.0, 64)
    chosen = round(high / 12 * BINS)
    tried = [int(np.ceil(BINS * s)) for s in np.linspace(1, 64 / BINS, 57)]
    best = min(tried, key=lambda end: slow(end, 64))
    assert chosen == pytest.approx(best, abs=1)
    assert best < BINS


def test_joined_ranges_hold_both() -> None:
    a, b = Range(), Range()
    a.see(torch.tensor([-1.0, 2.0]))
    b.see(torch.tensor([0.5, 3.0]))
    joined = a.join(b)
    assert (joined.low, joined.high, sum(map(len, joined.samples))) == (-1, 3, 4)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ExportError, match="calibration must be one of entropy, minmax, mse, percentile, but got 'max'"):
        seen(drawn()).grid(signed=False, method="max")
