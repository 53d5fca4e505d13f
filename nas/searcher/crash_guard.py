"""Crash guard: counts how often a piece of work ended its process, by a crash in native code or for want of memory.

A process that dies leaves no record of why. So the count is raised before the work begins and taken back when it ends
in any way that Python notices; what remains is the number of crashes.

A process that a person stops by `kill -9` counts as a crash too. So the count starts at zero again whenever the work
makes progress.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from nas.results.run_folder import RunFolder

MAX_CRASHES = 3
"""Crashes after which a piece of work is abandoned."""
ABANDONED_REASON = f"it ended the process {MAX_CRASHES} times"
"""Reason in the record of abandoned work."""


class CrashGuard:
    """One attempt at a piece of work, while it lasts.

    Attributes:
        crashes: processes that ended in this work since it last made progress.
    """

    def __init__(self, folder: RunFolder, name: str) -> None:
        self._folder, self._file = folder, f"locks/{name}.deaths"
        path = folder.path / self._file
        # A damaged file is one that the system cut off when it went down; it says nothing, so it counts as zero.
        text = path.read_bytes() if path.is_file() else b""
        self.crashes = int(text) if text.isdigit() and len(text) < 10 else 0

    @property
    def should_skip(self) -> bool:
        """Whether the work is to be abandoned."""
        return self.crashes >= MAX_CRASHES

    def record_progress(self) -> None:
        """Record that the work got further than ever before, so that earlier crashes no longer count."""
        self.crashes = 0
        self._write_count(1)  # this attempt is still under way

    def _write_count(self, crashes: int) -> None:
        if crashes:
            self._folder.write(self._file, str(crashes))
        else:
            (self._folder.path / self._file).unlink(missing_ok=True)


@contextmanager
def crash_guard(folder: RunFolder, name: str) -> Iterator[CrashGuard]:
    """Count the block as a crash until it ends.

    An exception, Ctrl-C included, is no crash: it restores the earlier count. The caller holds the work's lock
    meanwhile, because the count is not safe against two processes.

    Args:
        folder: the run.
        name: of the work; part of a file name.

    Yields:
        The attempt, with the crashes before it.
    """
    guard = CrashGuard(folder, name)
    guard._write_count(guard.crashes + 1)
    try:
        yield guard
    except BaseException:
        guard._write_count(guard.crashes)
        raise
    guard._write_count(0)
