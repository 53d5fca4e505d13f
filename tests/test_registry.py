"""The registry: names of members, their constants, and errors for unknown words."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas import registry
from nas.errors import UnknownMemberError, UserError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A family of two members, a private module, and a member that fails when it is imported."""
    folder = tmp_path / "fruits"
    folder.mkdir()
    (folder / "pear.py").write_text("FRUIT = 'a pear'\n")
    (folder / "apple.py").write_text("FRUIT = 'an apple'\n")
    (folder / "_base.py").write_text("FRUIT = 'no member'\n")
    (folder / "broken.py").write_text("raise RuntimeError('imported unnecessarily')\n")
    (folder / "notes.txt").write_text("no module\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(registry.FAMILIES, "fruit", ("fruits", "FRUIT"))
    yield "fruit"
    for module in [m for m in sys.modules if m.partition(".")[0] == "fruits"]:
        del sys.modules[module]


def test_names_are_the_public_modules_sorted(family: str) -> None:
    assert registry.names(family) == ("apple", "broken", "pear")


def test_load_returns_the_constant_and_imports_no_other_member(family: str) -> None:
    assert registry.load(family, "pear") == "a pear"


def test_a_new_file_is_a_member(family: str, tmp_path: Path) -> None:
    (tmp_path / "fruits" / "fig.py").write_text("FRUIT = 'a fig'\n")

    assert "fig" in registry.names(family)


def test_an_unknown_word_lists_the_members(family: str) -> None:
    with pytest.raises(UnknownMemberError, match="fruit must be one of apple, broken, pear, but got 'plum'") as caught:
        registry.load(family, "plum")
    assert isinstance(caught.value, UserError)


def test_an_unknown_word_suggests_the_closest_member(family: str) -> None:
    with pytest.raises(UnknownMemberError, match=r"but got 'peer'; did you mean 'pear'\?$"):
        registry.load(family, "peer")


@pytest.mark.parametrize("word", ["_base", "pear.FRUIT", "", "../pear"])
def test_a_private_module_or_a_path_is_not_a_member(family: str, word: str) -> None:
    with pytest.raises(UnknownMemberError):
        registry.load(family, word)


def test_an_unknown_family_lists_the_families() -> None:
    with pytest.raises(UnknownMemberError, match=r"family must be one of space, target, .*, but got 'colour'"):
        registry.names("colour")


def test_an_unknown_distillation_method_is_called_by_its_full_name() -> None:
    with pytest.raises(UnknownMemberError, match=r"distillation method must be one of attention, .*, but got 'logit'"):
        registry.load("method", "logit")


@pytest.mark.parametrize("name", sorted(registry.FAMILIES))
def test_every_member_of_every_family_loads(name: str) -> None:
    package, _ = registry.FAMILIES[name]
    files = {f.stem for f in (ROOT / package.replace(".", "/")).glob("[!_]*.py")}

    assert set(registry.names(name)) == files
    for member in files:
        assert registry.load(name, member) is not None


def test_a_factory_may_be_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is loaded by its path, also where a module of its name is imported already or it imports a neighbour."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "neighbour_of_a_test.py").write_text("WIDTH = 8\n")
    (tmp_path / "json.py").write_text("from neighbour_of_a_test import WIDTH\n\ndef build():\n    return WIDTH\n")
    assert registry.factory(f"{tmp_path}/json.py:build")() == 8
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my nets.py").write_text("def build():\n    return 'mine'\n")
    assert registry.factory("my nets.py:build")() == "mine"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("nowhere.py:build", "must be in a Python file, but nowhere.py does not exist"),
        ("net.py:", "must be package.module:function or file.py:function, but got 'net.py:'"),
        ("broken.py:build", "importing broken.py raised ZeroDivisionError"),
        ("net.py:other", "must name a function of net.py, but 'other' is none there"),
    ],
)
def test_a_file_without_the_factory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "net.py").write_text("def build():\n    return None\n")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    with pytest.raises(UserError, match=message):
        registry.factory(word)
