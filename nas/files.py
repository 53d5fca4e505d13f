"""Files: written whole or not at all, appended to by line, and read only where they end.

This is the only place that writes beside a file and renames.
"""

import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from nas.errors import ConfigError, one_line

MAX_TEXT_BYTES = 2**28
"""Bound of a text that is read at once, 256 MiB; the largest that this package writes has some megabytes."""
MOUNT_TABLE = Path("/proc/self/mountinfo")
"""Linux's table of mounts, see proc_pid_mountinfo(5)."""
NETWORK_FILE_SYSTEMS = frozenset(
    {
        "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "glusterfs", "pvfs2",
        "orangefs", "sshfs", "s3fs", "gcsfuse", "blobfuse2", "rclone", "juicefs", "mount.cifs", "davfs", "davfs2",
    }
)  # fmt: skip
"""Types of file systems whose files other machines may write, as in Linux's table of mounts, without `fuse.`."""


def regular_file_fault(path: Path) -> str | None:
    """Why a path is no file that ends, as the end of a sentence about it; None for a regular file.

    Reading a pipe may wait for ever, and a device such as /dev/zero has no end.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, ValueError):
        return "does not exist"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if stat.S_ISREG(mode):
        return None
    kinds = {stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}
    return f"must be a regular file, but is a {kinds.get(stat.S_IFMT(mode), 'socket')}"


def network_file_system(path: Path) -> str | None:
    """The type of the network file system that a path is on, such as nfs4; None on a local one, or where it is unknown.

    Args:
        path: need not exist; the nearest folder above it that does is looked up in Linux's table of mounts.
    """
    try:
        mounts = MOUNT_TABLE.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    place, kind, found = path.resolve(), "", Path()
    for mount in mounts:
        fields, _, source = mount.partition(" - ")
        point = Path(re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), fields.split(" ")[4]))
        # Of several mounts on one point, the last one is on top.
        if place.is_relative_to(point) and len(point.parts) >= len(found.parts):
            kind, found = source.split(" ")[0], point
    return kind if kind.removeprefix("fuse.") in NETWORK_FILE_SYSTEMS else None


def read_text(path: Path) -> str:
    """The UTF-8 text of a file that a user names or may have edited; a byte-order mark is left out.

    Raises:
        ConfigError: it is no regular file, cannot be read, is larger than `MAX_TEXT_BYTES`, or is no UTF-8.
    """
    if (fault := regular_file_fault(path)) is not None:
        raise ConfigError(f"{path} {fault}; give the path of a text file")
    try:
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise ConfigError(f"{path} must have at most {MAX_TEXT_BYTES:,} bytes; check that it is the right file")
        return path.read_bytes().decode("utf-8-sig")  # editors on Windows write a byte-order mark
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; check the path") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} must be UTF-8 text, but is not: {one_line(error)}; correct it") from None


def read_json(path: Path) -> Any:
    """The decoded value of a JSON file.

    Raises:
        ConfigError: as `read_text`, or the text is not JSON.
    """
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits, and nesting without end
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"{path} must be JSON as it was written, but is not: {one_line(error)}; restore the file, or remove it"
        ) from None


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to, and rename it to `path` if the block ends without an exception.

    Yields:
        The path to write. It is in the same folder, which must exist, because a rename is atomic only within a file
        system.

    Raises:
        OSError: the folder cannot be written, or the disk is full; the old file is then still there. Also where `path`
            is a pipe or a device, such as /dev/null, which a rename would replace for the whole machine.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise FileExistsError(errno.EEXIST, "a pipe or a device, which is not written to", str(path))
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
    """Add one line to a file of JSON lines and wait until it is on the disk. The caller holds it against other writers.

    A last line without its end, left by a writer that died, is ended where it is whole, and removed where it is torn.

    Raises:
        OSError: the file cannot be written.
    """
    with path.open("a+b") as file:
        last = _unended_line(file)
        if is_json(last):
            file.write(b"\n")
        else:
            _cut(file, len(last))
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def remove_torn_line(path: Path) -> None:
    """Remove a last line without its end, if there is one. The caller holds the file against other writers.

    Raises:
        OSError: the file cannot be read, or has such a line and cannot be written.
    """
    with path.open("rb") as file:
        last = _unended_line(file)
    if last:
        with path.open("r+b") as file:
            _cut(file, len(last))


def _unended_line(file: IO[bytes]) -> bytes:
    """What follows the last line break."""
    last, start = b"", file.seek(0, os.SEEK_END)
    while start and b"\n" not in last:
        step = min(start, 2**16)
        start = file.seek(start - step)
        last = file.read(step) + last
    return last.rpartition(b"\n")[2]


def is_json(line: bytes) -> bool:
    """Whether a line is one whole JSON value: False for a torn one."""
    try:
        json.loads(line.decode())
    except (ValueError, RecursionError):
        return False
    return True


def _cut(file: IO[bytes], count: int) -> None:
    """Remove the last bytes of a file, and go to its end."""
    file.truncate(file.seek(0, os.SEEK_END) - count)
    file.seek(0, os.SEEK_END)
