"""Files: digests, texts that end, appended lines, and writes that fail."""

import hashlib
import os
import resource
from pathlib import Path

import pytest

import nas.files
from nas.errors import ConfigError
from nas.files import append_line, file_sha256, read_json, read_text, remove_torn_line, write_atomic


def test_digest_is_that_of_the_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc" * 100_000)

    assert file_sha256(path) == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_digest_of_the_published_test_vector(tmp_path: Path) -> None:
    """FIPS 180-2, appendix B.1."""
    path = tmp_path / "file"
    path.write_bytes(b"abc")

    assert file_sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("kind", ["absent", "folder", "pipe", "device", "loop"])
def test_only_regular_files_are_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    makers = {"folder": path.mkdir, "pipe": lambda: os.mkfifo(path), "device": lambda: path.symlink_to("/dev/zero")}
    makers.get(kind, lambda: None)()
    if kind == "loop":
        path.symlink_to(path.name)
    fault = {"absent": "does not exist", "loop": "cannot be read"}.get(kind, f"must be a regular file, but is a {kind}")
    for read in (read_text, read_json):
        with pytest.raises(ConfigError, match=fault):
            read(path)


def test_a_text_loses_its_byte_order_mark_and_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    path.write_text("ä", encoding="utf-8-sig")
    assert read_text(path) == "ä"
    monkeypatch.setattr("nas.files.MAX_TEXT_BYTES", 3)
    with pytest.raises(ConfigError, match="must have at most 3 bytes"):
        read_text(path)


@pytest.mark.parametrize(
    ("before", "after"),
    [(b"", b"7\n"), (b"1\n", b"1\n7\n"), (b"1\n2", b"1\n2\n7\n"), (b"1\n{", b"1\n7\n"), (b"{", b"7\n"),
     (b"1\n" + b"[" * 200_000, b"1\n7\n")],
)  # fmt: skip
def test_a_torn_last_line_is_replaced_and_a_whole_one_ended(tmp_path: Path, before: bytes, after: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(before)
    append_line(path, "7")
    assert path.read_bytes() == after


@pytest.mark.parametrize(("before", "after"), [(b"", b""), (b"1\n", b"1\n"), (b"1\n2", b"1\n"), (b"{", b"")])
def test_a_torn_line_is_removed(tmp_path: Path, before: bytes, after: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(before)
    remove_torn_line(path)
    assert path.read_bytes() == after


def test_a_write_without_room_names_the_file_and_leaves_the_old_one(tmp_path: Path) -> None:
    file = write_atomic(tmp_path / "a.txt", "old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: .*a\.txt"):
            write_atomic(file, "x" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [(f.name, f.read_text()) for f in tmp_path.iterdir()] == [("a.txt", "old")]


def test_a_pipe_or_a_device_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.onnx"
    os.mkfifo(pipe)
    with pytest.raises(FileExistsError, match=r"a pipe or a device, which is not written to: .*pipe\.onnx"):
        write_atomic(pipe, "text")
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe.onnx"]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/data/study.db", None),
        ("/data/nas/study.db", "nfs4"),
        ("/data/nas/local/study.db", None),
        ("/data/nasty/study.db", None),
        ("/data/a b/x/y.db", "fuse.sshfs"),
        ("/data/top/y.db", "cifs"),
    ],
)
def test_a_network_file_system_is_found_in_the_table_of_mounts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, kind: str | None
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "2 1 0:1 / /data/nas rw,relatime shared:1 master:2 - nfs4 server:/x rw\n"
        "3 2 8:2 / /data/nas/local rw - xfs /dev/sdb rw\n"
        "4 1 0:3 / /data/a\\040b rw - fuse.sshfs me@host: rw\n"
        "5 1 8:3 / /data/top rw - ext4 /dev/sdc rw\n"
        "6 5 0:4 / /data/top rw - cifs //host/x rw\n"
    )
    monkeypatch.setattr(nas.files, "MOUNT_TABLE", table)
    assert nas.files.network_file_system(Path(path)) == kind
    monkeypatch.setattr(nas.files, "MOUNT_TABLE", tmp_path / "none")
    assert nas.files.network_file_system(Path(path)) is None
