"""Crash guard: counts how often a piece of work crashed its process by itself, and nothing else that ended one.

A process that is killed leaves no record of why. So the rule asks for evidence that only a crash leaves:

- **A fatal signal** (SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL), which Python's `faulthandler` writes with a traceback
  into a file of the work while the process dies. For SIGKILL, SIGTERM, SIGHUP, a reboot or a lost machine it writes
  nothing.
- **Out of memory**: the counter of OOM kills of the process's control group is higher when the work is taken up again
  than when it began, see `nas.runtimes.oom_kills`.
- **The time limit**: a watchdog found no sign of life for `SILENCE_LIMIT_S`, says so in the same file, and ends the
  process. Seconds in which the process itself did not run (SIGSTOP, suspend) do not count.

Any other end of a process is an interruption: the work is repeated from its last checkpoint, however often. Limits of
the evidence: a stack that overflows outside the main thread leaves none; an OOM kill that also ends the control group,
as in a container that is started anew, is taken for an interruption; an interruption in the same period as an OOM kill
of another process of the group is taken for one. The last is why a single crash abandons nothing.

    runs/NAME/locks/WORK.fault     of the attempt under way: one line of facts, then what faulthandler writes
    runs/NAME/locks/WORK.crashes   the same of each attempt that crashed; removed once the work is done
"""

import faulthandler
import json
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from nas.results.run_folder import RunFolder
from nas.runtimes.oom_kills import OomKills, read_oom_kills

logger = logging.getLogger(__name__)

MAX_CRASHES = 2
"""Crashes after which a piece of work is abandoned."""
SILENCE_LIMIT_S = 7200.0
"""Seconds without a sign of life after which a process counts as hanging.

The longest silences of sound work, scoring on a slow machine and waiting for a board, take minutes.
"""
_CRASHED = "it crashed its process"
_OUT_OF_MEMORY, _OVER_TIME = "Fatal: out of memory", "Fatal: over its time limit"
_SIGNALS = {
    "Fatal Python error: Segmentation fault": "SIGSEGV",
    "Fatal Python error: Aborted": "SIGABRT",
    "Fatal Python error: Bus error": "SIGBUS",
    "Fatal Python error: Floating": "SIGFPE",
    "Fatal Python error: Illegal instruction": "SIGILL",
    "Windows fatal exception: ": "a fatal exception of Windows",
    _OUT_OF_MEMORY: "out of memory",
    _OVER_TIME: "over its time limit",
}
"""Begin of the line that each kind of crash leaves, and the word for it."""

_open_files: list[TextIO] = []  # of the guards that are entered, the innermost last
_signs_of_life = 0


def note_sign_of_life() -> None:
    """Tell the watchdogs that this process is getting on with its work."""
    global _signs_of_life
    _signs_of_life += 1


def is_abandoned(reason: str) -> bool:
    """Whether the reason of a failed record is that of abandoned work."""
    return reason.startswith(_CRASHED)


class CrashGuard:
    """One attempt at a piece of work, while it lasts.

    Attributes:
        crashes: how each process ended that this work has crashed since it last made progress: the signal's name, "out
            of memory" or "over its time limit".
    """

    def __init__(self, folder: RunFolder, name: str) -> None:
        self.name = name
        self._fault_file = folder.path / f"locks/{name}.fault"
        self._crashes_file = folder.path / f"locks/{name}.crashes"
        self._count_last_attempt()
        self.crashes = _crashes_in(_read(self._crashes_file))

    @property
    def should_skip(self) -> bool:
        """Whether the work is to be abandoned."""
        return len(self.crashes) >= MAX_CRASHES

    @property
    def reason(self) -> str:
        """Reason in the record of abandoned work."""
        return f"{_CRASHED} {len(self.crashes)} times: {', '.join(self.crashes)}"

    def record_progress(self) -> None:
        """Record that the work got further than ever before, so that earlier crashes no longer count."""
        self.crashes = ()
        self._crashes_file.unlink(missing_ok=True)

    def _count_last_attempt(self) -> None:
        """Move what the last attempt left, if it crashed, to the crashes."""
        facts, _, trace = _read(self._fault_file).partition("\n")
        if not _crashes_in(trace) and _was_killed_for_memory(facts):
            trace += f"{_OUT_OF_MEMORY}: the kernel killed a process of this control group\n"
        if found := _crashes_in(trace):
            logger.warning("%s crashed the process that was at it: %s", self.name, found[0])
            with self._crashes_file.open("a", encoding="utf-8") as file:
                file.write(trace + "\n")
        self._fault_file.unlink(missing_ok=True)


@contextmanager
def crash_guard(folder: RunFolder, name: str) -> Iterator[CrashGuard]:
    """Have a crash of the block noticed by the next guard of the same work, also in another process.

    An exception, Ctrl-C included, is no crash: it leaves the crashes as they were. The caller holds the work's lock
    meanwhile. While the block runs, `faulthandler` writes to the work's file instead of standard error.

    Args:
        folder: the run.
        name: of the work; part of a file name.

    Yields:
        The attempt, with the crashes before it.

    Raises:
        OSError: the folder cannot be written.
    """
    guard = CrashGuard(folder, name)
    try:
        with guard._fault_file.open("w", encoding="utf-8") as file:
            oom_kills = read_oom_kills()
            file.write(json.dumps({"pid": os.getpid(), "oom_kills": asdict(oom_kills) if oom_kills else None}) + "\n")
            file.flush()
            with _faults_written_to(file), _watchdog(file, name):
                yield guard
    finally:
        guard._fault_file.unlink(missing_ok=True)
    guard._crashes_file.unlink(missing_ok=True)


@contextmanager
def _faults_written_to(file: TextIO) -> Iterator[None]:
    was_enabled = faulthandler.is_enabled()
    _open_files.append(file)
    faulthandler.enable(file)
    try:
        yield
    finally:
        _open_files.remove(file)
        faulthandler.disable()
        if _open_files:
            faulthandler.enable(_open_files[-1])
        elif was_enabled and sys.__stderr__ is not None:
            with suppress(ValueError, OSError):  # standard error is no file
                faulthandler.enable(sys.__stderr__)


@contextmanager
def _watchdog(file: TextIO, name: str) -> Iterator[None]:
    """End the process once it has shown no sign of life for `SILENCE_LIMIT_S`, unless a person is typing to it."""
    is_interactive = hasattr(sys, "ps1") or "ipykernel" in sys.modules
    done = threading.Event()
    thread = threading.Thread(target=_watch, args=(file, name, done), name=f"watchdog of {name}", daemon=True)
    if not is_interactive:
        thread.start()
    try:
        yield
    finally:
        done.set()
        if not is_interactive:
            thread.join()  # it writes to the file


def _watch(file: TextIO, name: str, done: threading.Event) -> None:
    silent_s, seen, step_s = 0.0, _signs_of_life, min(1.0, SILENCE_LIMIT_S)
    while not done.wait(step_s):  # in small steps: a process that was stopped meanwhile misses one step only
        silent_s = silent_s + step_s if seen == _signs_of_life else 0.0
        seen = _signs_of_life
        if silent_s >= SILENCE_LIMIT_S:
            line = f"nas: {name} must show a sign of life within {SILENCE_LIMIT_S:g} s, but did not"
            with suppress(OSError):  # no room, or no terminal
                file.write(f"{_OVER_TIME}\n")
                file.flush()
                faulthandler.dump_traceback(file)
                os.write(2, f"{line}; the same command resumes\n".encode())
            os._exit(1)  # the thread that hangs cannot be stopped


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def _crashes_in(trace: str) -> tuple[str, ...]:
    """The word for each crash in what attempts have left, in order."""
    return tuple(word for line in trace.split("\n") for start, word in _SIGNALS.items() if line.startswith(start))


def _was_killed_for_memory(facts: str) -> bool:
    try:
        return OomKills(**json.loads(facts)["oom_kills"]).grew_to(read_oom_kills())
    except (ValueError, TypeError, KeyError):  # no counter, or a file that the system cut off when it went down
        return False
