"""Jetson profiles against NVIDIA's advertised figures."""

import pytest

from hw_profiles._power_modes import find_power_mode
from hw_profiles.jetson import PROFILES


@pytest.mark.parametrize(
    ("name", "bits", "tera"),
    [  # advertised, dense, GPU alone (sparse figures halved, without DLA)
        ("jetson-nano", 16, 0.472),
        ("jetson-tx2", 16, 1.33),
        ("jetson-agx-xavier", 8, 22),
        ("jetson-orin-nano", 8, 20),
        ("jetson-orin-nano-4gb", 8, 10),
        ("jetson-orin-nx-8gb", 8, 25),
        ("jetson-orin-nx", 8, 30),
        ("jetson-agx-orin-32gb", 8, 54),
        ("jetson-agx-orin", 8, 85),
        ("jetson-orin-nano-super", 8, 33),
        ("jetson-thor", 8, 517),
    ],
)
def test_peak_rates_are_the_advertised_ones(name: str, bits: int, tera: float) -> None:
    assert PROFILES[name].peak_gops[bits] == pytest.approx(tera * 1e3, rel=0.03)


def test_boards_without_integer_units_do_not_offer_int8() -> None:
    assert {n for n, p in PROFILES.items() if 8 not in p.precisions} == {"jetson-nano", "jetson-tx2", "jetson-tx2-nx"}


def test_jetson_is_the_orin_nano() -> None:
    assert PROFILES["jetson"] is PROFILES["jetson-orin-nano"]


@pytest.mark.parametrize("name", PROFILES)
def test_the_power_mode_of_a_board_is_one_of_its_module(name: str) -> None:
    profile = PROFILES[name]
    own = find_power_mode(profile, str(profile.facts["power_mode"]))
    assert own
    assert own.gpu_mhz == pytest.approx(profile.facts["gpu_mhz"], rel=0.01)  # data sheets round
    assert own.multiprocessors == profile.facts["multiprocessors"]


@pytest.mark.parametrize("name", PROFILES)
def test_modes_have_all_clocks_or_none_within_those_of_the_module(name: str) -> None:
    profile = PROFILES[name]
    assert len({mode.name for mode in profile.power_modes}) == len(profile.power_modes) > 1
    most = max(mode.multiprocessors or 0 for mode in profile.power_modes)
    for mode in profile.power_modes:
        known = {value is not None for value in (mode.gpu_mhz, mode.multiprocessors, mode.memory_mhz)}
        assert len(known) == 1
        assert (mode.multiprocessors or most) <= most == profile.facts["multiprocessors"]


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("jetson-nano", 64), ("jetson-tx2", 128), ("jetson-tx2-nx", 128), ("jetson-xavier-nx", 128),
        ("jetson-agx-xavier", 256), ("jetson-orin-nano-4gb", 64), ("jetson-orin-nano", 128),
        ("jetson-orin-nano-super", 128), ("jetson-orin-nx-8gb", 128), ("jetson-orin-nx", 128),
        ("jetson-agx-orin-32gb", 256), ("jetson-agx-orin", 256), ("jetson-thor", 256),
    ],
)  # fmt: skip
def test_the_memory_clock_gives_the_bandwidth_of_the_data_sheet(name: str, bits: int) -> None:
    profile = PROFILES[name]
    own = find_power_mode(profile, str(profile.facts["power_mode"]))
    assert own
    assert own.memory_mhz
    assert profile.bandwidth_gb_s == pytest.approx(
        bits / 8 * 2 * own.memory_mhz / 1e3, rel=0.01
    )  # two transfers a clock
