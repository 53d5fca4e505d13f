import pytest

from hw_profiles import cpu
from nas import registry, targets
from nas.errors import ConfigError, UnknownMemberError


def test_all_families_are_found_sorted() -> None:
    found = targets.targets()
    assert list(found) == sorted(found)
    assert {"cpu", "jetson", "jetson-nano"} <= found.keys()


def test_a_target_is_found_by_its_word() -> None:
    assert targets.target("cpu") is cpu.PROFILES["cpu"]


def test_an_unknown_word_lists_the_known_ones() -> None:
    with pytest.raises(UnknownMemberError, match=r"cpu, jetson.*'toaster'"):
        targets.target("toaster")


def test_a_name_given_twice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "load", lambda family, name: cpu.PROFILES)
    with pytest.raises(ConfigError, match="must be unique, but cpu"):
        targets.targets()
