"""The cache: what its key depends on, and folders that cannot be written."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from nas.data.base import FaceData, Split
from nas.data.cache import load_cached


def faces(label: int = 0) -> FaceData:
    split = Split(images=np.full((2, 1, 4, 4), label, np.uint8), labels=np.array([label, 1 - label]))
    return FaceData(name="x", classes=("a", "b"), train=split, val=split, test=None)


def loads(cache: Path, *calls: dict[str, object]) -> list[bool]:
    """Whether each call read its source."""
    read = []
    for call in calls:
        count: list[int] = []
        sources: Iterable[Path] = call.pop("sources", ())  # type: ignore[assignment]
        arguments = {"dataset": "x", "settings": {}, **call}
        load_cached(cache, lambda count=count: count.append(1) or faces(), sources=sources, **arguments)  # type: ignore
        read.append(bool(count))
    return read


def test_key_depends_on_root_settings_details_and_sources(tmp_path: Path) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    for file in files:
        file.write_bytes(b"x")
    calls = [
        {"root": tmp_path, "sources": files},
        {"root": tmp_path.parent, "sources": files},
        {"root": tmp_path, "sources": files[:1]},
        {"root": tmp_path, "sources": files, "settings": {"size": 48}},
        {"root": tmp_path, "sources": files, "details": ["happy"]},
        {"root": tmp_path, "sources": files, "details": ["sad"]},
        {"root": tmp_path, "sources": files, "dataset": "y"},
    ]
    assert loads(tmp_path / "cache", *[dict(call) for call in calls]) == [True] * 7
    assert loads(tmp_path / "cache", *[dict(call) for call in calls]) == [False] * 7


def test_content_that_changes_at_the_same_size_and_time_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"x")
    before = file.stat()
    assert loads(tmp_path / "cache", {"sources": [file]}) == [True]
    file.write_bytes(b"y")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert loads(tmp_path / "cache", {"sources": [file]}, {"sources": [file]}) == [True, False]


def test_names_that_are_no_utf8_have_keys(tmp_path: Path) -> None:
    file = tmp_path / os.fsdecode(b"caf\xe9.png")
    file.write_bytes(b"x")
    call = {"root": tmp_path / os.fsdecode(b"\xff"), "sources": [file], "details": [os.fsdecode(b"\xe9")]}
    assert loads(tmp_path / "cache", dict(call), dict(call)) == [True, False]


@pytest.mark.parametrize("place", ["/dev/null/cache", "file/cache", "/proc/cache"])
def test_folder_that_cannot_be_made_is_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    (tmp_path / "file").write_bytes(b"")
    data = load_cached(tmp_path / place, faces, dataset="x", settings={})
    assert data.digest == faces().digest
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"cache folder {tmp_path / place} cannot be written" in caplog.text


def test_disk_that_is_full_leaves_the_cache_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    assert load_cached(tmp_path, faces, dataset="x", settings={}).digest == faces().digest
    assert "No space left on device" in caplog.text
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"PK", b"\0" * 500])
def test_file_of_another_form_is_written_again(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    assert loads(tmp_path, {}) == [True]
    (entry,) = tmp_path.iterdir()
    entry.write_bytes(content)
    assert loads(tmp_path, {}, {}) == [True, False]
    assert "cannot be read" in caplog.text
