"""Incremental reader of a file of JSON lines that another process may append to.

Each complete line is parsed once in the life of a reader; a later read looks only at the bytes appended since. The file
is read again from its start in three cases:

- it became shorter, or was rewritten at the same length;
- it is another file under the same name: device or inode differ;
- the bytes that were read last are no longer where they were.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from nas.errors import ConfigError, one_line
from nas.files import is_json, regular_file_fault
from nas.latency.measured.gc_control import gc_paused

logger = logging.getLogger(__name__)

Item = TypeVar("Item")

ANCHOR_BYTES = 256
"""Length of the remembered end of what was read. A file that was rewritten and then grew past that point keeps its
inode, so neither inode nor size shows the change; other bytes in front of the offset do."""


class JsonLines(Generic[Item]):
    """A file of JSON lines, read as a list of items, oldest first.

    - The last line counts without a line break as soon as it is valid JSON. Until then it is left out with a warning:
      its writer is at it, or died; the next line that is appended takes its place.
    - Any other line that `parse` refuses is an error, because a result must not be lost without a word.
    - Empty lines are skipped, and a file that does not exist has no items.
    """

    def __init__(self, path: Path, parse: Callable[[str], Item], keep: Callable[[Item], bool] | None = None) -> None:
        """Prepare to read; nothing is opened yet.

        Args:
            path: the file.
            parse: makes an item of the text of one line; a ValueError refuses the line.
            keep: whether an item counts; None keeps all.
        """
        self._path = path
        self._parse, self._keep = parse, keep
        self._forget()

    def read(self) -> list[Item]:
        """All items so far.

        Returns:
            A new list of the same objects as in earlier reads, which callers must not change.

        Raises:
            ConfigError: the file cannot be read, or a line is damaged; the message names the line.
        """
        try:
            self._update()
        except OSError as error:
            raise ConfigError(f"cannot read {self._path}: {error.strerror}; check its owner and mode") from None
        return [*self._items, *self._unended_items]

    def _forget(self) -> None:
        self._items: list[Item] = []
        self._unended_items: list[Item] = []
        self._unended = b""
        self._n_lines = 0
        self._offset = 0
        self._anchor = b""
        self._seen: tuple[int, int, int, int] | None = None

    def _update(self) -> None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._forget()
            return
        if self._seen == _signature(status):
            return
        if (fault := regular_file_fault(self._path)) is not None:
            raise ConfigError(f"{self._path} {fault}; restore it from a copy")
        with self._path.open("rb") as file:
            status = os.fstat(file.fileno())
            content = self._appended(file.fileno(), status)
        whole = content[: content.rfind(b"\n") + 1]
        with gc_paused():  # thousands of new objects, none of which is garbage
            self._items += self._parse_lines(whole)
        self._n_lines += whole.count(b"\n")
        self._offset += len(whole)
        self._anchor = (self._anchor + whole)[-ANCHOR_BYTES:]
        self._read_unended(content[len(whole) :])
        self._seen = _signature(status)

    def _appended(self, descriptor: int, status: os.stat_result) -> bytes:
        """Bytes from the offset to the size in `status`; of a file that was replaced, all of it.

        What is appended after `status` was taken waits for the next read, so that offset and signature always belong
        together and an equal size with another time can only mean that the file was rewritten.
        """
        if self._seen and not self._is_continued(descriptor, status):
            self._forget()
        return _read_all(descriptor, self._offset, status.st_size - self._offset)

    def _is_continued(self, descriptor: int, status: os.stat_result) -> bool:
        """Whether the file only grew since the last read."""
        device, inode, size, _ = self._seen or (0, 0, 0, 0)
        if (status.st_dev, status.st_ino) != (device, inode) or status.st_size <= size:
            return False
        expected = self._anchor + self._unended
        start = self._offset - len(self._anchor)
        return _read_all(descriptor, start, len(expected)) == expected

    def _read_unended(self, rest: bytes) -> None:
        """Parse the part after the last line break; unless it changed, its items stay the same objects."""
        if rest == self._unended:
            return
        self._unended_items = []
        if is_json(rest):
            self._unended_items = self._parse_lines(rest)
        elif rest:
            logger.warning(
                "%s, line %d is incomplete and left out: a process is writing it, or ended while it did",
                self._path, self._n_lines + 1,
            )  # fmt: skip
        self._unended = rest

    def _parse_lines(self, content: bytes) -> list[Item]:
        items: list[Item] = []
        for number, line in enumerate(content.split(b"\n"), start=self._n_lines + 1):
            if not line.strip():
                continue
            try:
                item = self._parse(line.decode())
                if self._keep is None or self._keep(item):
                    items.append(item)
            except (ValueError, RecursionError) as error:
                if not is_json(line):  # torn: a version that did not mend torn last lines wrote on behind one
                    logger.warning("%s, line %d is incomplete and left out", self._path, number)
                    continue
                raise ConfigError(
                    f"{self._path}, line {number} must be as it was written, but {one_line(error)}; restore the line "
                    "from a copy, or remove it"
                ) from None
        return items


def _signature(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _read_all(descriptor: int, start: int, count: int) -> bytes:
    """`count` bytes from `start` on, fewer at the end of the file; `os.pread` alone may return less."""
    parts: list[bytes] = []
    while count > 0 and (part := os.pread(descriptor, count, start)):
        parts.append(part)
        start, count = start + len(part), count - len(part)
    return b"".join(parts)
