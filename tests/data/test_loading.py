"""Loading by name, and the folder of the cache."""

import os
import tempfile
from pathlib import Path

import pytest

from nas.data.loading import default_cache_dir, load_data
from nas.errors import UnknownMemberError


def test_default_cache_respects_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "fer-nas"
    data = load_data("synthetic", None, options={"n": "200"})
    assert data.name == "synthetic"
    assert list((tmp_path / "fer-nas").glob("synthetic-*.npz"))
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert default_cache_dir() == Path("/home/somebody/.cache/fer-nas")


def test_explicit_cache_folder_is_used(tmp_path: Path) -> None:
    load_data("synthetic", None, options={"n": "200"}, cache_dir=tmp_path / "c")
    assert len(list((tmp_path / "c").iterdir())) == 1


def test_unknown_name_lists_the_members() -> None:
    with pytest.raises(UnknownMemberError, match=r"ckplus, csv, .*fer2013, ferplus, folder, .*synthetic"):
        load_data("faces", None)


def test_user_without_a_home_folder_has_the_cache_in_the_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert default_cache_dir() == Path(tempfile.gettempdir()) / f"fer-nas-{os.getuid()}"
