"""CSV text of files and archives: bounds, damaged archives, and members that are no files."""

import bz2
import gzip
import io
import os
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest

from nas.data import csv_archive, csv_table
from nas.data.csv_archive import open_csv
from nas.data.csv_table import read_rows
from nas.errors import DataError

TEXT = b"path,label\na.png,happy\n"


def rows(path: Path) -> list[dict[str, str]]:
    with open_csv(path, names=("fer2013.csv", "icml.csv")) as file:
        return [row for _, row in read_rows(file, source=path, required=("path", "label"))]


def tar(path: Path, *members: tuple[str, bytes | None, bytes], mode: str = "w:gz") -> Path:
    """An archive of (name, content, type); content None is a link to another file."""
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content, kind in members:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(content or b""), "" if content is not None else "absent.csv"
            archive.addfile(info, io.BytesIO(content or b""))
    return path


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress])
def test_compression_is_found_by_content(tmp_path: Path, pack) -> None:
    (tmp_path / "fer2013.csv").write_bytes(pack(b"\xef\xbb\xbf" + TEXT))
    assert rows(tmp_path / "fer2013.csv") == [{"path": "a.png", "label": "happy"}]


def test_quoted_first_column_behind_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b'\xef\xbb\xbf"path","label"\n"a.png","happy"\n')
    assert rows(tmp_path / "x.csv") == [{"path": "a.png", "label": "happy"}]


@pytest.mark.parametrize("delimiter", [";", "\t", ","])
def test_semicolons_and_tabs_of_spreadsheets(tmp_path: Path, delimiter: str) -> None:
    lines = ("Path|label|note", 'a.png|happy|"1,5;2"')
    (tmp_path / "x.csv").write_text("\r\n".join(line.replace("|", delimiter) for line in lines), encoding="utf-8-sig")
    assert rows(tmp_path / "x.csv") == [{"path": "a.png", "label": "happy", "note": "1,5;2"}]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])
def test_member_that_is_no_file_is_refused(tmp_path: Path, kind: bytes) -> None:
    path = tar(tmp_path / "x.tar.gz", ("fer2013.csv", None, kind))
    with pytest.raises(DataError, match=r"must hold fer2013\.csv as a file, but holds 0 other CSV files"):
        rows(path)


def test_hidden_members_do_not_count_and_the_preferred_name_wins(tmp_path: Path) -> None:
    files = [(name, TEXT, tarfile.REGTYPE) for name in ("__MACOSX/fer2013.csv", "a/._fer2013.csv")]
    path = tar(
        tmp_path / "x.tar", *files, ("a/icml.csv", b"no header", tarfile.REGTYPE), ("fer2013.csv", TEXT, b"0"), mode="w"
    )
    assert len(rows(path)) == 1
    with pytest.raises(DataError, match="holds 2 other CSV files"):
        rows(tar(tmp_path / "y.tar", ("b.csv", TEXT, b"0"), ("c.csv", TEXT, b"0"), mode="w"))


def test_damaged_and_encrypted_archives_are_one_line(tmp_path: Path) -> None:
    damaged = bytearray(gzip.compress(os.urandom(5000)))
    damaged[1000:1100] = b"x" * 100
    (tmp_path / "a.csv.gz").write_bytes(damaged[:-1000])
    (tmp_path / "b.csv.gz").write_bytes(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03" + b"\xff" * 50)  # no DEFLATE
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("fer2013.csv", TEXT)
    content = bytearray((tmp_path / "c.zip").read_bytes())
    for header, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # bit 0 of the flags: encrypted
        at = content.index(header) + offset
        content[at : at + 2] = struct.pack("<H", 1)
    (tmp_path / "c.zip").write_bytes(content)
    (tmp_path / "d.tar.gz").write_bytes(gzip.compress(b"no archive" * 100))
    for name in ("a.csv.gz", "b.csv.gz", "c.zip", "d.tar.gz"):
        with pytest.raises(DataError, match=r"cannot be unpacked|must be CSV text|must hold"):
            rows(tmp_path / name)


@pytest.mark.parametrize("name", ["x.csv.gz", "x.tar.gz", "x.zip"])
def test_unpacked_size_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(csv_archive, "MAX_UNPACKED_BYTES", 100_000)
    content = TEXT + b"a.png,happy\n" * 20_000
    path = tmp_path / name
    if name.endswith(".tar.gz"):
        tar(path, ("other.bin", content, b"0"), ("fer2013.csv", TEXT, b"0"))
    elif name.endswith(".zip"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("fer2013.csv", content)
    else:
        path.write_bytes(gzip.compress(content))
    assert path.stat().st_size < 5000
    with pytest.raises(DataError, match="must unpack to at most 100,000 bytes, but has more"):
        rows(path)


def test_lines_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress(TEXT + b"0" * 50_000_000))
    with pytest.raises(DataError, match=r"row 3: a line must have at most 65,536 characters, but has more"):
        rows(path)
    path.write_bytes(gzip.compress(TEXT + b"\n" * 1000))
    monkeypatch.setattr(csv_table, "MAX_LINES", 500)
    with pytest.raises(DataError, match="must have at most 500 lines, but has more"):
        rows(path)
    monkeypatch.setattr(csv_table, "MAX_CHARACTERS", 300)
    with pytest.raises(DataError, match="must have at most 300 characters, but has more"):
        rows(path)


@pytest.mark.timeout(20)
def test_pipes_devices_and_folders_are_refused_unread(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    for path, kind in ((tmp_path / "pipe.csv", "pipe"), (tmp_path / "zero.csv", "device"), (tmp_path, "folder")):
        with pytest.raises(DataError, match=f"must be a regular file, but is a {kind}"):
            rows(path)


def test_text_that_is_no_utf8_and_columns_that_repeat(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes("path,label\na.png,colère\n".encode("utf-16"))
    with pytest.raises(DataError, match=r"row 1: the file must be CSV text in UTF-8"):
        rows(tmp_path / "x.csv")
    (tmp_path / "x.csv").write_bytes("path,label\na.png,colère\n".encode("cp1252"))
    with pytest.raises(DataError, match=r"the file must be CSV text in UTF-8"):
        rows(tmp_path / "x.csv")
    (tmp_path / "x.csv").write_bytes(b"path,label,label\na.png,happy,sad\n")
    with pytest.raises(DataError, match="a column must occur once, but label occurs twice"):
        rows(tmp_path / "x.csv")
    (tmp_path / "x.csv").write_bytes(b"\x00head\x1b[2J\na.png\n")
    with pytest.raises(DataError, match=r"path, label is missing from \\x00head\\x1b\[2j; add the column"):
        rows(tmp_path / "x.csv")
