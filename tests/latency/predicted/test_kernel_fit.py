"""Coefficients fitted to single kernels, against planted ones."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.latency.costs import Kernel
from nas.latency.predicted.cost_columns import CostColumns
from nas.latency.predicted.kernel_fit import fit_kernel_coefficients

COLUMNS = CostColumns(bits=(32,), block=16)
PLANTED = {"launch": 2.0, "mbyte": 100.0, "mmac": 20.0}
TRUE = np.array([PLANTED.get(name.rpartition(".")[2], 0.0) for name in COLUMNS.names])
PROFILE = np.ones(len(TRUE))


def kernel(seed: int) -> Kernel:
    random = np.random.default_rng(seed)
    side, source, target = int(random.integers(3, 48)), *(int(c) for c in random.choice([16, 32, 64], 2))
    made = Kernel(
        name="k", kind="pointwise" if seed % 2 else "elementwise", macs=0, input_bytes=4 * source * side**2,
        output_bytes=4 * target * side**2, weight_bytes=0, bits=32,
    )  # fmt: skip
    if seed % 2:
        made = replace(made, macs=side**2 * source * target, in_channels=source, out_channels=target)
    return replace(made, profiled_us=float(COLUMNS.cost_vector([made]) @ TRUE))


def test_planted_coefficients_are_recovered() -> None:
    found = fit_kernel_coefficients([kernel(i) for i in range(200)], COLUMNS, PROFILE)
    assert found is not None
    for kind in ("pointwise", "elementwise"):
        for part in ("launch", "mbyte"):
            i = COLUMNS.names.index(f"{kind}32.{part}")
            assert found[i] == pytest.approx(TRUE[i], rel=0.15)


def test_disturbed_kernels_do_not_move_the_fit() -> None:
    timed = [kernel(i) for i in range(200)]
    disturbed = [replace(k, profiled_us=9 * (k.profiled_us or 0)) if i % 9 == 0 else k for i, k in enumerate(timed)]
    found = fit_kernel_coefficients(disturbed, COLUMNS, PROFILE)
    rows = np.array([COLUMNS.cost_vector([k]) for k in timed])
    assert np.median(np.abs(rows @ found / (rows @ TRUE) - 1)) < 0.05


def test_a_column_that_no_kernel_has_follows_the_profile() -> None:
    profile = PROFILE.copy()
    depthwise = [i for i, name in enumerate(COLUMNS.names) if name.startswith("depthwise")]
    profile[depthwise] = np.arange(1, len(depthwise) + 1)
    found = fit_kernel_coefficients([kernel(i) for i in range(40)], COLUMNS, profile)
    assert found is not None
    assert found[depthwise] / found[depthwise[0]] == pytest.approx(profile[depthwise])


@pytest.mark.parametrize("count", [0, 2])
def test_too_few_profiled_kernels_give_no_fit(count: int) -> None:
    timed = [kernel(i) for i in range(count)]
    assert fit_kernel_coefficients([*timed, replace(kernel(9), profiled_us=None)], COLUMNS, PROFILE) is None


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_no_coefficient_is_negative(seed: int) -> None:
    times = np.random.default_rng(seed).uniform(0, 50, 12)
    found = fit_kernel_coefficients(
        [replace(kernel(i), profiled_us=float(t)) for i, t in enumerate(times)], COLUMNS, PROFILE
    )
    assert found is not None
    assert (found >= 0).all()
