"""Profiles in another power mode: rates follow the clocks, intervals widen, unknown modes are refused in one line."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw_profiles._base import HardwareProfile, PowerMode
from hw_profiles._power_modes import MAX_RELATIVE_ERROR, find_power_mode, is_same_mode, with_power_mode
from hw_profiles.cuda import PROFILES as CARDS
from hw_profiles.jetson import PROFILES

EVERY = [(profile, mode) for profile in PROFILES.values() for mode in profile.power_modes if mode.gpu_mhz]
every = given(st.sampled_from(EVERY))


def test_figures_of_a_slower_mode_follow_its_clocks() -> None:
    slow = with_power_mode(PROFILES["jetson-agx-orin"], "15W")
    assert slow.title == "Jetson AGX Orin 64 GB (MODE_15W, GPU at 408 MHz)"
    # Ampere: 2048 half-precision operations per multiprocessor and clock; 256 bits of memory, two transfers a clock
    assert slow.peak_gops[16] == pytest.approx(2048 * 6 * 0.408, rel=1e-3)
    assert slow.bandwidth_gb_s == pytest.approx(256 / 8 * 2 * 2.133, rel=2e-3)
    assert (slow.facts["power_mode"], slow.facts["gpu_mhz"], slow.facts["multiprocessors"]) == ("MODE_15W", 408, 6)
    assert slow.latency is not None
    assert "carried to MODE_15W (408 MHz, 6)" in slow.latency.source
    assert "no figure of this mode was fitted to" in slow.latency.source


@every
def test_rates_are_proportional_to_clock_and_multiprocessors(pair: tuple[HardwareProfile, PowerMode]) -> None:
    profile, mode = pair
    found = with_power_mode(profile, mode.name)
    assert mode.gpu_mhz
    assert mode.multiprocessors
    ratio = mode.gpu_mhz * mode.multiprocessors / (profile.facts["gpu_mhz"] * profile.facts["multiprocessors"])  # type: ignore[operator]
    for bits, gops in profile.peak_gops.items():
        assert found.peak_gops[bits] == pytest.approx(gops * ratio, rel=0.01)


@every
def test_the_interval_never_narrows_and_covers_both_scalings_of_the_floor(
    pair: tuple[HardwareProfile, PowerMode],
) -> None:
    profile, mode = pair
    found = with_power_mode(profile, mode.name)
    assert found.latency
    assert profile.latency
    assert found.latency.relative_error >= profile.latency.relative_error
    ratio = max(found.facts["gpu_mhz"] / profile.facts["gpu_mhz"], profile.facts["gpu_mhz"] / found.facts["gpu_mhz"])  # type: ignore[operator]
    assert 1 + found.latency.relative_error >= min(ratio, 1 + MAX_RELATIVE_ERROR) - 0.01
    assert found.latency.floor_us == pytest.approx(
        profile.latency.floor_us * profile.facts["gpu_mhz"] / found.facts["gpu_mhz"],  # type: ignore[operator]
        abs=0.01,
    )


@every
def test_a_profile_in_its_own_mode_is_itself(pair: tuple[HardwareProfile, PowerMode]) -> None:
    profile, _ = pair
    assert with_power_mode(profile, str(profile.facts["power_mode"])) is profile


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("MODE_30W_ALL", "MODE_30W_ALL"),
        ("30w_4core", "MODE_30W_4CORE"),
        ("30W", "MODE_30W_ALL"),  # all modes of 30 W have the same GPU settings
        ("15W", "MODE_15W"),  # exact, although it is a prefix of another
        ("3", None),
    ],
)
def test_modes_are_found_by_their_common_spellings(word: str, name: str | None) -> None:
    found = find_power_mode(PROFILES["jetson-agx-xavier"], word)
    assert (found.name if found else None) == name


def test_a_power_with_different_gpu_settings_is_ambiguous() -> None:
    assert find_power_mode(PROFILES["jetson-xavier-nx"], "10W") is None
    assert find_power_mode(PROFILES["jetson-xavier-nx"], "20W") == find_power_mode(
        PROFILES["jetson-xavier-nx"], "MODE_20W_6CORE"
    )


def test_prefix_and_case_are_ignored() -> None:
    assert is_same_mode("MODE_15W", "15w")
    assert not is_same_mode("MODE_15W", "MODE_15W_DESKTOP")


def test_a_profile_without_a_latency_model_gets_none() -> None:
    assert with_power_mode(replace(PROFILES["jetson-nano"], latency=None), "5W").latency is None


@pytest.mark.parametrize(
    ("profile", "mode", "reason"),
    [
        (PROFILES["jetson-nano"], "10W", r"^power_mode of jetson-nano must be one of MAXN, 5W, but got '10W'$"),
        (
            PROFILES["jetson-thor"],
            "120W",
            r"^power_mode must be one whose clocks are published \(MAXN\), but got '120W'",
        ),
        (CARDS["cuda"], "15W", r"^power_mode must be left out for cuda, which has no power modes, but got '15W'$"),
    ],
)
def test_an_unknown_mode_is_refused_in_one_line(profile: HardwareProfile, mode: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        with_power_mode(profile, mode)


def test_a_mode_with_a_fitted_profile_names_it() -> None:
    told = with_power_mode(PROFILES["jetson-orin-nano"], "MAXN_SUPER").latency
    assert told
    assert "jetson-orin-nano-super was fitted to this mode" in told.source
    named = {mode.fitted_as: mode for board in PROFILES.values() for mode in board.power_modes if mode.fitted_as}
    for name, mode in named.items():
        assert find_power_mode(PROFILES[name], str(PROFILES[name].facts["power_mode"])) == replace(mode, fitted_as="")


def test_a_mode_with_equal_gpu_settings_keeps_the_constants() -> None:
    board = PROFILES["jetson-xavier-nx"]
    found = with_power_mode(board, "MODE_20W_2CORE")
    assert found.latency == board.latency
    assert found.facts["power_mode"] == "MODE_20W_2CORE"
    assert found.title == "Jetson Xavier NX (MODE_20W_2CORE, GPU at 1100 MHz)"
