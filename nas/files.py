"""Files that appear whole or not at all: the only place that writes beside a file and renames."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to, and rename it to `path` if the block ends without an exception.

    Yields:
        The path to write. It is in the same folder, which must exist, because a rename is atomic only within a file
        system.

    Raises:
        OSError: the folder cannot be written, or the disk is full; the old file is then still there.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield beside
        beside.replace(path)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename is None:  # a write that fails does not name its file
            error.filename = str(path)
        beside.unlink(missing_ok=True)
        raise


def write_atomic(path: Path, content: str | bytes) -> Path:
    """Write a whole file; a reader sees the old content or the new, never a part of either.

    Args:
        path: the file; its folder must exist.
        content: text is written as UTF-8.

    Returns:
        `path`.

    Raises:
        OSError: the folder cannot be written, or the disk is full; the old file is then still there.
    """
    with whole_file(path) as beside:
        beside.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def append_line(path: Path, line: str) -> None:
    """Add one line to a text file and wait until it is on the disk. The caller holds the file against other writers.

    A torn last line, left by a writer that died, is ended first, so that it stays a line of its own.

    Raises:
        OSError: the file cannot be written.
    """
    with path.open("a+b") as file:
        file.seek(0, os.SEEK_END)
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
