"""Quiet host: the workers of a host hold still while one of them times a file.

Every worker holds a lock of its own while it works. One that wants to time a file raises a flag, and waits until it can
take the locks of all others: these release them at their next training step, and wait until the flag is down. All
of it are file locks, which the system releases when a process ends, so a worker that dies never stops the others.
"""

import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

logger = logging.getLogger(__name__)

PATIENCE_S = 30.0
"""Seconds to wait for the other workers; scoring the files of a large net takes about as long at most."""
POLL_S = 0.005


def host_folder() -> Path:
    """The folder of the locks: one for each user and host."""
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    return Path(tempfile.gettempdir()) / f"fer-nas-host-{user}"


class QuietHost:
    """One worker's part in keeping the host quiet. Used from one thread.

    Args:
        folder: of the locks, common to all workers of the host.
        patience_s: seconds to wait for the others before timing beside them.
    """

    def __init__(self, folder: Path, *, patience_s: float = PATIENCE_S) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._patience_s = folder, patience_s
        self._own = FileLock(folder / f"{os.getpid()}.working", thread_local=False)
        self._turn = FileLock(folder / "timing.lock", thread_local=False)
        self._flag = folder / "timing"

    @contextmanager
    def working(self) -> Iterator[None]:
        """Count as a worker that disturbs, while the block runs."""
        self._start()
        try:
            yield
        finally:
            self._own.release()

    def make_way(self) -> None:
        """Hold still while another worker times a file. Costs a microsecond where none does."""
        if self._flag.exists():
            self._own.release()
            self._start()

    @contextmanager
    def still(self) -> Iterator[bool]:
        """Have all other workers hold still while the block runs; it is called amid `working`.

        Yields:
            Whether all of them do; false where one did not within the time.
        """
        self._own.release()
        try:
            with self._turn, ExitStack() as stack:
                self._flag.touch()
                stack.callback(self._flag.unlink, missing_ok=True)
                yield self._wait_for_others(stack)
        finally:
            self._start()

    def _start(self) -> None:
        """Begin to work once nobody times a file. A flag that is up without a holder was left by a worker that died."""
        while True:
            if self._flag.exists():
                with self._turn:
                    self._flag.unlink(missing_ok=True)
            self._own.acquire()
            if not self._flag.exists():
                return
            self._own.release()

    def _wait_for_others(self, stack: ExitStack) -> bool:
        end = time.monotonic() + self._patience_s
        for path in self._folder.glob("*.working"):
            if path == Path(self._own.lock_file):
                continue
            lock = FileLock(path, thread_local=False)
            try:
                stack.enter_context(lock.acquire(timeout=max(0.0, end - time.monotonic()), poll_interval=POLL_S))
            except Timeout:
                logger.info("%s did not hold still within %g s", path.stem, self._patience_s)
                return False
            if not _is_alive(int(path.stem)):
                path.unlink(missing_ok=True)
        return True


def _is_alive(pid: int) -> bool:
    if os.name == "nt":  # a signal of 0 would end the process there
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
