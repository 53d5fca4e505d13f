"""Contract of hardware profiles: known names, plausible figures, and a source for each figure."""

import pytest

from hw_profiles._base import HardwareProfile
from nas import registry
from nas.targets.catalog import load_targets

EVERY = [
    pytest.param(word, profile, id=word)
    for member in registry.names("target")
    for word, profile in registry.load("target", member).items()
]
FIGURES = ("precisions", "channel_multiple", "activation_signed", "peak_gops", "bandwidth_gb_s", "memory_gb")
each = pytest.mark.parametrize(("word", "profile"), EVERY)


@each
def test_each_word_is_the_name_or_an_alias_of_its_profile(word: str, profile: HardwareProfile) -> None:
    assert word == profile.name or load_targets()[profile.name] is profile
    assert profile.title


@each
def test_the_runtime_is_known(word: str, profile: HardwareProfile) -> None:
    assert profile.runtime in set(registry.names("runtime"))


@each
def test_precisions_are_ascending_and_have_a_rate(word: str, profile: HardwareProfile) -> None:
    assert list(profile.precisions) == sorted(set(profile.precisions))
    assert set(profile.precisions) <= {8, 16, 32}
    assert set(profile.peak_gops) == set(profile.precisions)
    rates = [profile.peak_gops[bits] for bits in profile.precisions]
    assert rates == sorted(rates, reverse=True)
    assert min(rates) > 0


@each
def test_figures_are_positive(word: str, profile: HardwareProfile) -> None:
    assert profile.bandwidth_gb_s > 0
    assert profile.channel_multiple >= 1


@each
def test_every_figure_has_a_source(word: str, profile: HardwareProfile) -> None:
    named = {*FIGURES, *profile.facts, *(["power_modes"] if profile.power_modes else [])}
    assert not {f for f in named if not (profile.sources.get(f) or profile.sources.get("*"))}
    assert set(profile.sources) <= {*named, "*"}


@each
def test_a_remote_device_has_a_latency_model_with_a_source(word: str, profile: HardwareProfile) -> None:
    assert profile.local or profile.latency
    if profile.latency is not None:
        model = profile.latency
        assert model.source
        assert model.floor_us > 0
        assert model.fixed_us >= 0
        assert 0 < model.relative_error < 1
        assert all(0 < share <= 1 for share in model.efficiency.values())
