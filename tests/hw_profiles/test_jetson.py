"""The Jetson table against NVIDIA's advertised figures."""

import pytest

from hw_profiles.jetson import PROFILES


@pytest.mark.parametrize(
    ("name", "bits", "tera"),
    [  # advertised, dense, GPU alone (sparse figures halved, DLA taken off)
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


def test_boards_without_integer_units_do_not_offer_eight_bits() -> None:
    assert {n for n, p in PROFILES.items() if 8 not in p.precisions} == {"jetson-nano", "jetson-tx2", "jetson-tx2-nx"}


def test_jetson_is_the_orin_nano() -> None:
    assert PROFILES["jetson"] is PROFILES["jetson-orin-nano"]


@pytest.mark.parametrize("name", PROFILES)
def test_the_mode_of_a_row_is_one_of_its_modules_modes(name: str) -> None:
    facts = PROFILES[name].facts
    modes = str(facts["power_modes"]).split(", ")
    assert f"{facts['power_mode']} {facts['gpu_mhz']:g} MHz" in modes
