"""The file is the registration: names, constants, and one line for a word that names nothing."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas import registry
from nas.errors import UnknownMemberError, UserError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A family of its own: two members, one private part, and a member that must not be imported without need."""
    folder = tmp_path / "fruits"
    folder.mkdir()
    (folder / "pear.py").write_text("FRUIT = 'a pear'\n")
    (folder / "apple.py").write_text("FRUIT = 'an apple'\n")
    (folder / "_base.py").write_text("FRUIT = 'no member'\n")
    (folder / "broken.py").write_text("raise RuntimeError('imported without need')\n")
    (folder / "notes.txt").write_text("no module\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(registry.FAMILIES, "fruit", ("fruits", "FRUIT"))
    yield "fruit"
    for module in [m for m in sys.modules if m.partition(".")[0] == "fruits"]:
        del sys.modules[module]


def test_names_are_the_public_modules_sorted(family: str) -> None:
    assert registry.names(family) == ("apple", "broken", "pear")


def test_load_gives_the_constant_and_touches_no_other_member(family: str) -> None:
    assert registry.load(family, "pear") == "a pear"


def test_a_file_that_appears_is_a_member(family: str, tmp_path: Path) -> None:
    (tmp_path / "fruits" / "fig.py").write_text("FRUIT = 'a fig'\n")

    assert "fig" in registry.names(family)


def test_an_unknown_word_lists_the_members(family: str) -> None:
    with pytest.raises(UnknownMemberError, match="fruit must be one of apple, broken, pear, but got 'plum'") as caught:
        registry.load(family, "plum")
    assert isinstance(caught.value, UserError)


def test_a_word_that_looks_like_a_member_is_asked_about(family: str) -> None:
    with pytest.raises(UnknownMemberError, match=r"but got 'peer'; did you mean 'pear'\?$"):
        registry.load(family, "peer")


@pytest.mark.parametrize("word", ["_base", "pear.FRUIT", "", "../pear"])
def test_a_private_part_or_a_path_is_no_member(family: str, word: str) -> None:
    with pytest.raises(UnknownMemberError):
        registry.load(family, word)


def test_an_unknown_family_lists_the_families() -> None:
    with pytest.raises(UnknownMemberError, match=r"family must be one of space, target, .*, but got 'colour'"):
        registry.names("colour")


@pytest.mark.parametrize("name", sorted(registry.FAMILIES))
def test_every_member_of_every_family_loads(name: str) -> None:
    package, _ = registry.FAMILIES[name]
    files = {f.stem for f in (ROOT / package.replace(".", "/")).glob("[!_]*.py")}

    assert set(registry.names(name)) == files
    for member in files:
        assert registry.load(name, member) is not None
