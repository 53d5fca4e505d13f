"""How often some work has ended the process that did it: by a crash in native code, or for want of memory.

A process that dies leaves no record of why. So each piece of work that may do that to a process is counted before it
begins, and the count is taken back when it ends in any way that Python sees. What is left counts deaths.

Whoever stops a search by `kill -9` looks the same from here; so a count begins anew whenever the work got further.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from nas.results.run_folder import RunFolder

MAX_CRASHES = 3
"""Processes that one piece of work may cost before it is given up."""
ABANDONED_REASON = f"it ended the process {MAX_CRASHES} times"
"""The reason of a record whose work was given up so."""


class CrashGuard:
    """One attempt at a piece of work, while it lasts.

    Attributes:
        deaths: processes that ended in it before, since it last got further.
    """

    def __init__(self, folder: RunFolder, name: str) -> None:
        self._folder, self._file = folder, f"locks/{name}.deaths"
        found = folder.path / self._file
        self.crashes = int(found.read_text() or 0) if found.exists() else 0

    @property
    def should_skip(self) -> bool:
        """Whether the work shall be given up."""
        return self.crashes >= MAX_CRASHES

    def record_progress(self) -> None:
        """Note that the work got further than ever before: what happens from now on is counted from none."""
        self.crashes = 0
        self._write_count(1)

    def _write_count(self, crashes: int) -> None:
        if crashes:
            self._folder.write(self._file, str(crashes))
        else:
            (self._folder.path / self._file).unlink(missing_ok=True)


@contextmanager
def crash_guard(folder: RunFolder, name: str) -> Iterator[CrashGuard]:
    """Count the block as a death of the process until it ends.

    An exception, Ctrl-C among them, is no death: the count is as it was before. Hold the lock of the work meanwhile.

    Args:
        folder: the run.
        name: of the work, a file name.

    Yields:
        The attempt, with the deaths before it.
    """
    made = CrashGuard(folder, name)
    made._write_count(made.crashes + 1)
    try:
        yield made
    except BaseException:
        made._write_count(made.crashes)
        raise
    made._write_count(0)
