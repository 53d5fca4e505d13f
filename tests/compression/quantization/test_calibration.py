"""Calibration methods against numpy and against their purpose."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nas.compression.quantization.calibration import CALIBRATION_METHODS, RangeObserver
from nas.compression.quantization.clipping import HISTOGRAM_BINS, TAIL_FRACTION, entropy_range, percentile_range
from nas.errors import ExportError


def observed(values: torch.Tensor) -> RangeObserver:
    observer = RangeObserver()
    for part in values.split(20_000):
        observer.observe(part)
    for part in values.split(20_000):
        observer.update_histogram(part)
    return observer


def drawn(seed: int = 0, count: int = 100_000) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


def width(observer: RangeObserver, method: str, *, signed: bool = False) -> float:
    grid = observer.fake_quantize(signed=signed, method=method)
    return grid.scale * (grid.quant_max - grid.quant_min)


def mean_square(values: torch.Tensor, observer: RangeObserver, method: str) -> float:
    return float((observer.fake_quantize(signed=False, method=method)(values) - values).square().mean())


@pytest.mark.parametrize("signed", [False, True])
def test_minmax_clips_nothing(signed: bool) -> None:
    values = drawn()
    grid = observed(values).fake_quantize(signed=signed, method="minmax")
    assert float((grid(values) - values).abs().max()) <= grid.scale * (0.5 if signed else 1.0) + 1e-6


def test_percentile_equals_numpys() -> None:
    values = drawn().relu()
    low, high = percentile_range(observed(values)._histogram(with_zeros=True), 0.0, float(values.max()), 256)
    assert low == 0
    assert high == pytest.approx(np.quantile(values, 1 - TAIL_FRACTION), abs=2 * float(values.max()) / HISTOGRAM_BINS)


@given(st.integers(0, 1000), st.floats(-5, 0), st.floats(0.1, 5))
def test_percentile_leaves_few_values_outside(seed: int, low: float, high: float) -> None:
    counts = np.random.default_rng(seed).integers(0, 100, HISTOGRAM_BINS).astype(float)
    new_low, new_high = percentile_range(counts, low, high, 256)
    assert low - 1e-9 <= new_low <= 0 <= new_high <= high + 1e-9
    edges = np.linspace(low, high, HISTOGRAM_BINS + 1)
    assert counts[edges[1:] <= new_low - 1e-9].sum() <= TAIL_FRACTION * counts.sum()
    assert counts[edges[:-1] >= new_high + 1e-9].sum() <= TAIL_FRACTION * counts.sum()


def test_percentile_and_entropy_clip_an_outlier() -> None:
    """`mse` keeps the outlier: here clipping it costs 35 squared, once, more than wide levels cost all other values."""
    values = torch.cat([drawn().relu(), torch.tensor([40.0])])
    observer = observed(values)
    assert width(observer, "minmax") == pytest.approx(40, rel=0.01)
    assert width(observer, "mse") == pytest.approx(40, rel=0.01)
    assert width(observer, "entropy") < 6
    assert width(observer, "percentile") == pytest.approx(float(np.quantile(values, 1 - TAIL_FRACTION)), rel=0.01)


def test_a_uniform_range_is_kept_whole() -> None:
    values = torch.rand(200_000, generator=torch.Generator().manual_seed(0))
    assert all(width(observed(values), method) == pytest.approx(1, abs=0.02) for method in CALIBRATION_METHODS)


def test_mse_minimises_the_squared_error() -> None:
    values = torch.cat([drawn(), drawn(1, 200) * 8])
    observer = observed(values)
    errors = {method: mean_square(values, observer, method) for method in CALIBRATION_METHODS}
    assert errors["mse"] <= min(errors["minmax"], errors["entropy"], errors["percentile"]) * 1.05


def test_entropy_equals_a_slow_reference() -> None:
    """Reference with loops over levels and bins, as the method is described."""
    rng = np.random.default_rng(0)
    counts, _ = np.histogram(np.abs(rng.laplace(size=50_000)), HISTOGRAM_BINS, (0, 12))
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

    _, high = entropy_range(counts, 0.0, 12.0, 64)
    chosen = round(high / 12 * HISTOGRAM_BINS)
    tried = [int(np.ceil(HISTOGRAM_BINS * s)) for s in np.linspace(1, 64 / HISTOGRAM_BINS, 57)]
    best = min(tried, key=lambda end: slow(end, 64))
    assert chosen == pytest.approx(best, abs=1)
    assert best < HISTOGRAM_BINS


def test_merged_ranges_contain_both() -> None:
    a, b = RangeObserver(), RangeObserver()
    a.observe(torch.tensor([-1.0, 2.0]))
    b.observe(torch.tensor([0.5, 3.0]))
    joined = a.merge(b)
    assert (joined.min_value, joined.max_value, sum(map(len, joined.samples))) == (-1, 3, 4)


def test_an_unknown_method_is_rejected() -> None:
    with pytest.raises(ExportError, match="calibration must be one of entropy, minmax, mse, percentile, but got 'max'"):
        observed(drawn()).fake_quantize(signed=False, method="max")
