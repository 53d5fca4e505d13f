"""CSV text of a plain, compressed or archived file, with a bound on what is unpacked."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from nas.data.paths import is_hidden, printable_path
from nas.errors import DataError, one_line
from nas.files import regular_file_fault

MAX_UNPACKED_BYTES = 2**31
"""Bound of what is unpacked of a file, headers of archives included; FER2013 has 301 MB in one file."""
_OPENERS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
"""Readers of compressed streams by the first bytes of a file."""


@contextmanager
def open_csv(source: Path, *, names: tuple[str, ...]) -> Iterator[IO[str]]:
    """The text of a CSV file, plain or in .gz, .tar, .tar.gz or .zip.

    Args:
        source: the file.
        names: of the file in an archive, the preferred first; else an archive must hold a single CSV file.

    Raises:
        DataError: the file is a pipe or a device, is damaged, unpacks to more than `MAX_UNPACKED_BYTES`, or is an
            archive without the CSV file. The errors of the text itself are `read_rows`'s.
    """
    shown = printable_path(source)
    if (fault := regular_file_fault(source)) is not None:
        raise DataError(f"{shown} {fault}; give the path of a CSV file or of its archive")
    try:
        with ExitStack() as stack:
            raw = _open_bytes(source, names, stack)
            yield stack.enter_context(io.TextIOWrapper(raw, encoding="utf-8-sig", newline=""))
    except (OSError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError) as error:
        # zipfile raises RuntimeError for encrypted files and for unknown methods of compression.
        raise DataError(
            f"{shown} must be a readable file or archive, but cannot be unpacked: {one_line(error)}; download it again"
        ) from None


def _open_bytes(source: Path, names: tuple[str, ...], stack: ExitStack) -> IO[bytes]:
    shown = printable_path(source)
    if source.suffix.lower() == ".zip":
        archive = stack.enter_context(zipfile.ZipFile(source))
        member = _find_csv_member([m.filename for m in archive.infolist() if not m.is_dir()], names, shown)
        return io.BufferedReader(_Bounded(stack.enter_context(archive.open(member)), shown))
    raw: IO[bytes] = stack.enter_context(source.open("rb"))
    head = raw.read(6)
    raw.seek(0)
    for magic, opener in _OPENERS.items():
        if head.startswith(magic):
            raw = stack.enter_context(opener(raw))  # type: ignore[operator]  # readers of bytes
    unpacked = io.BufferedReader(_Bounded(raw, shown))
    if not source.name.lower().endswith((".tar.gz", ".tgz", ".tar", ".tar.bz2", ".tar.xz")):
        return unpacked
    tar = stack.enter_context(tarfile.TarFile(fileobj=unpacked))
    members = {member.name: member for member in tar if member.isreg()}  # no folders, links or devices
    inner = tar.extractfile(members[_find_csv_member(list(members), names, shown)])
    if inner is None:  # only of members that are no regular files
        raise DataError(f"{shown} must hold {names[0]} as a file, but does not; unpack it and give its path")
    return inner


def _find_csv_member(members: list[str], names: tuple[str, ...], shown: str) -> str:
    visible = [name for name in members if not any(is_hidden(part) for part in PurePosixPath(name).parts)]
    tables = [name for name in visible if name.lower().endswith(".csv")]
    for wanted in names:
        if best := next((name for name in tables if PurePosixPath(name).name == wanted), None):
            return best
    if len(tables) != 1:
        raise DataError(
            f"{shown} must hold {names[0]} as a file, but holds {len(tables)} other CSV files; if it is the folder "
            "release, unpack it and give the path of the folder"
        )
    return tables[0]


class _Bounded(io.RawIOBase):
    """A stream that raises after `MAX_UNPACKED_BYTES`, so that a small archive cannot unpack without end."""

    def __init__(self, raw: IO[bytes], shown: str) -> None:
        self._raw, self._shown = raw, shown

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._raw.seekable()

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._raw.read(min(len(buffer), 2**20))  # a header may claim any size
        buffer[: len(data)] = data
        self._check(self._raw.tell())
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET:
            self._check(offset)  # a compressed stream would unpack up to there
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def _check(self, position: int) -> None:
        if position > MAX_UNPACKED_BYTES:
            raise DataError(
                f"{self._shown} must unpack to at most {MAX_UNPACKED_BYTES:,} bytes, but has more; check that this is "
                "the right file"
            )
