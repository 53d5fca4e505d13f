"""Published tables as kernels: totals against the roofline, MACs against closed forms, and the fit of constants."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import device_tables, nb201_cells
from benchmarks.device_tables import KINDS, NAMES, Table
from hw_profiles.raspberry_pi import PROFILES
from nas.latency.costs import Costs
from nas.latency.predicted.roofline import predict_roofline

PROFILE = PROFILES["raspberry-pi-4"]
BLOCK = "ConvBlock_H14_W14_Cin16_Cout32_exp3_kernel5_stride2_group1"


def test_features_times_coefficients_are_the_roofline() -> None:
    assert PROFILE.latency
    kernels = device_tables.frame_kernels() + device_tables.operator_kernels(BLOCK)
    found = device_tables.features(kernels, PROFILE, fixed=True) @ device_tables.coefficients(PROFILE.latency)
    net = Costs(kernels=tuple(kernels), params=0, nonzero_params=0)
    assert found / 1e3 == pytest.approx(predict_roofline(net, PROFILE).latency_ms)


def test_frame_and_cells_have_the_published_macs() -> None:
    frame = sum(kernel.macs for kernel in device_tables.frame_kernels())
    assert frame + 10 == 7_783_050  # the table also counts the classifier's bias
    body = 6 * sum(kernel.macs for kernel in device_tables.cell_kernels("conv3x3"))
    assert frame + body + 10 == 220_119_690
    assert frame + body == nb201_cells.macs(np.full((1, 6), nb201_cells.CONV3))[0]


@pytest.mark.parametrize("word", ["skip", "node"])
def test_skips_and_nodes_launch_no_kernel(word: str) -> None:
    assert device_tables.cell_kernels(word) == []


@pytest.mark.parametrize(
    ("key", "kinds", "macs"),
    [
        (BLOCK, ["pointwise", "depthwise", "pointwise"], 14**2 * 16 * 48 + 7**2 * 48 * 25 + 7**2 * 48 * 32),
        (
            BLOCK.replace("group1", "group2"),
            ["grouped", "depthwise", "grouped"],
            (14**2 * 16 + 7**2 * 32) * 24 + 58_800,
        ),
        ("ConvNorm_H9_W9_Cin3_Cout16_kernel3_stride2_group1", ["conv"], 5**2 * 9 * 3 * 16),
        ("FC_Cin12_Cout10", ["linear"], 120),
        ("Skip_H8_W8_Cin4_Cout8_stride2", ["pointwise"], 4**2 * 4 * 8),
        ("Skip_H8_W8_Cin4_Cout4_stride1", ["elementwise"], 0),
        ("AvgP_H4_W4_Cin8_Cout8_kernel4_stride1", ["elementwise"], 0),
    ],
)
def test_an_operator_becomes_its_kernels(key: str, kinds: list[str], macs: int) -> None:
    found = device_tables.operator_kernels(key)
    assert [kernel.kind for kernel in found] == kinds
    assert sum(kernel.macs for kernel in found) == macs


def test_an_unknown_operator_is_refused() -> None:
    with pytest.raises(ValueError, match="must be like Skip_H4"):
        device_tables.operator_kernels("Swish_H4")


def planted_table(constants: np.ndarray, count: int = 60) -> Table:
    features = np.random.default_rng(1).uniform(1, 100, (count, len(NAMES)))
    return Table("planted", features, features @ constants / 1e3)


@given(
    st.floats(0.5, 50), st.lists(st.floats(0.02, 1), min_size=len(KINDS), max_size=len(KINDS))
)  # fmt: skip
def test_a_fit_recovers_planted_constants(floor: float, shares: list[float]) -> None:
    constants = np.array([15.0, floor, *(1 / share for share in shares)])
    found = device_tables.fit([planted_table(constants)], np.array([15.0, *np.ones(len(NAMES) - 1)]))
    np.testing.assert_allclose(found, constants, rtol=1e-3, atol=1e-2)


def test_shares_are_at_most_one_and_absent_kinds_keep_the_prior() -> None:
    table = planted_table(np.array([15.0, 5, *np.full(len(KINDS), 0.5)]))  # faster than the peak
    table.features[:, NAMES.index("grouped")] = 0
    prior = np.full(len(NAMES), 7.0)
    found = device_tables.fit([table], prior)
    assert (found[2:] >= 1).all()
    assert found[NAMES.index("grouped")] == found[0] == 7


def test_a_table_is_read_evaluated_and_fitted(tmp_path: Path) -> None:
    operations = np.random.default_rng(0).integers(0, 5, (300, 6))
    table = pd.DataFrame(operations, columns=list(nb201_cells.COLUMNS)).assign(board_ms=1.0)
    table.to_csv(tmp_path / "cells.csv")
    assert PROFILE.latency
    prior = device_tables.coefficients(PROFILE.latency)
    cells = device_tables.cells_table(tmp_path / "cells.csv", "board_ms", PROFILE, "live")
    slow = Table("cells", cells.features, 2 * cells.features @ prior / 1e3)
    found = device_tables.study([slow], prior, fitted=True)
    assert found["cells, as shipped"]["median_ratio"] == pytest.approx(2)
    assert found["cells, as shipped"]["spearman"] == pytest.approx(1)
    assert found["cells, half left out"]["median_error"] < 0.05
    with pytest.raises(SystemExit, match=r"has no 'nano_ms'; it has board_ms"):
        device_tables.cells_table(tmp_path / "cells.csv", "nano_ms", PROFILE, "live")


def test_constants_are_written_in_the_form_of_a_profile() -> None:
    found = device_tables.describe(np.array([15.0, 8.681, 2.0, 1.0, 8.0, 4.0, 1.0, 1.25]))
    assert found == {
        "fixed_us": 15, "floor_us": 8.68, "conv": 0.5, "pointwise": 1, "depthwise": 0.125, "grouped": 0.25, "linear": 1,
        "memory": 0.8,
    }  # fmt: skip
