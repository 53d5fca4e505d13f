"""Death of the timing worker: whether the file crashed it or someone ended it, and what follows.

The process that started the worker sees how it ended. A fatal signal, an exit and an OOM kill are crashes, which the
second time are the file's fault. Any other signal is an interruption, after which the file is timed again.
"""

import logging
import signal
from collections.abc import Callable
from typing import TypeVar

from nas.errors import MeasureError, WorkerDeathError
from nas.runtimes.oom_kills import OomKills, read_oom_kills

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_CRASHES = 2
"""Crashes of the worker over one measurement after which it fails."""
MAX_KILLS = 10
"""Interruptions of one measurement after which something on the machine must be found that kills the worker."""
_FATAL = {"SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSYS", "SIGTRAP", "SIGXCPU"}


def describe_death(files: str, status: int | None, *, before: OomKills | None) -> WorkerDeathError:
    """The error of a worker that ended while it timed files.

    Args:
        files: their names.
        status: exit status of the process; negative for a signal.
        before: OOM kills before the measurement.
    """
    if status is None or status >= 0:
        cause, is_crash = f"status {status}", True
    else:
        cause = _signal_name(-status)
        is_crash = cause in _FATAL
    if cause == "SIGKILL" and before is not None and before.grew_to(read_oom_kills()):
        cause, is_crash = "out of memory", True
    return WorkerDeathError(
        f"the process that timed {files} must live, but it ended with {cause}", cause=cause, is_crash=is_crash
    )


def repeat_after_death(measure: Callable[[], T]) -> T:
    """The result of a measurement, repeated if the worker dies.

    Args:
        measure: makes the whole measurement.

    Raises:
        MeasureError: it crashed the worker `MAX_CRASHES` times, or fails otherwise.
        ChildProcessError: something killed the worker `MAX_KILLS` times; the files are not to blame.
    """
    crashes: list[str] = []
    n_kills = 0
    while True:
        try:
            return measure()
        except WorkerDeathError as death:
            if death.is_crash:
                crashes.append(death.cause)
            else:
                n_kills += 1
            if len(crashes) >= MAX_CRASHES:
                raise MeasureError(f"{death} (before: {', '.join(crashes[:-1])})") from None
            if n_kills >= MAX_KILLS:
                raise ChildProcessError(f"{death} ({n_kills} times in a row)") from None
            logger.warning("%s; timed again", death)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
