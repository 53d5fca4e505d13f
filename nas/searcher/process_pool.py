"""Pool of worker processes on this machine, which take tasks. One that crashes or is killed is replaced."""

import contextlib
import logging
import os
import pickle
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nas.config import RunFields
from nas.evaluation.evaluator import Evaluator
from nas.latency.measured.worker_death import describe_death
from nas.runtimes.oom_kills import OomKills, read_oom_kills
from nas.searcher.executor import Death, Executor, OnLog, Outcome, Task, read_message, write_message
from nas.searcher.worker import PickledEvaluator

SILENCE_LIMIT_S = 7200.0
"""Seconds without a sign of life after which a worker counts as hanging.

The longest silences of sound work, scoring on a slow machine and waiting for a board, take minutes.
"""
CHECK_S = 1.0
"""Seconds between two checks of the limits."""
_ROOT = str(Path(__file__).resolve().parents[2])


@dataclass(eq=False)
class _Process:
    """One worker process.

    Attributes:
        popen: the process.
        scratch: its folder.
        outbox: what a thread of its own writes to it: a process that still starts would block the driver.
        task: under way; None while it is free.
        last_sign_s: time of its last message.
        oom_kills: counter before the task.
        end: what the driver ended it for; None where it did not.
    """

    popen: "subprocess.Popen[bytes]"
    scratch: Path
    outbox: "queue.SimpleQueue[bytes | None]" = field(default_factory=queue.SimpleQueue)
    task: Task | None = None
    last_sign_s: float = 0.0
    oom_kills: OomKills | None = None
    end: Death | None = None


class ProcessPool(Executor):
    """Starts a process for each worker when it is first needed, and another where one has died."""

    def __init__(self, options: RunFields, on_log: OnLog) -> None:
        self.n_workers = options.n_workers
        self._memory_limit, self._on_log = options.worker_memory, on_log
        self._evaluator: bytes = b""
        self._scratch: Path | None = None
        self._processes: list[_Process] = []
        self._last_check_s = 0.0
        self._messages: queue.SimpleQueue[tuple[_Process, Any]] = queue.SimpleQueue()

    def configure(self, evaluator: Evaluator) -> None:
        """Give all workers this evaluator for the tasks that follow."""
        self.load(pickle.dumps(PickledEvaluator.of(evaluator)))

    def load(self, content: bytes) -> None:
        """Do as `configure` does, with the pickle of a `PickledEvaluator`."""
        self._evaluator = content
        for process in self._processes:
            process.outbox.put(self._evaluator)

    def submit(self, task: Task) -> None:
        """Hand a task to a worker that is free, or to a new one."""
        process = next((p for p in self._processes if p.task is None), None) or self._start()
        process.task, process.last_sign_s, process.oom_kills = task, time.monotonic(), read_oom_kills()
        process.outbox.put(pickle.dumps(task))

    def wait(self, timeout_s: float) -> Outcome | None:
        """The next outcome; None where no task has ended within the time."""
        end = time.monotonic() + timeout_s
        while (left_s := end - time.monotonic()) > 0:
            if time.monotonic() - self._last_check_s > CHECK_S:
                self._check_limits()
            try:
                process, message = self._messages.get(timeout=min(left_s, CHECK_S))
            except queue.Empty:
                continue
            if (outcome := self._handle(process, message)) is not None:
                return outcome
        return None

    def close(self) -> None:
        """Kill all workers."""
        for process in self._processes:
            process.outbox.put(None)
            process.popen.kill()
        for process in self._processes:
            process.popen.wait()
        self._processes = []
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _start(self) -> _Process:
        self._scratch = self._scratch or Path(tempfile.mkdtemp(prefix="fer-nas-"))
        scratch = Path(tempfile.mkdtemp(dir=self._scratch))
        popen = subprocess.Popen(
            # `-P` keeps the working directory off the path: a file json.py there must not shadow the library's.
            [sys.executable, "-P", "-m", "nas.searcher.worker_process", str(scratch)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches the driver only, which then ends the workers
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))},
        )
        process = _Process(popen=popen, scratch=scratch)
        process.outbox.put(self._evaluator)
        for target in (self._read, self._write):
            threading.Thread(target=target, args=(process,), daemon=True).start()
        self._processes.append(process)
        return process

    def _read(self, process: _Process) -> None:
        pipe = process.popen.stdout
        assert pipe is not None  # noqa: S101
        with pipe, contextlib.suppress(EOFError, OSError):
            while True:
                self._messages.put((process, pickle.loads(read_message(pipe))))  # noqa: S301  from our own process
        self._messages.put((process, None))

    def _write(self, process: _Process) -> None:
        pipe = process.popen.stdin
        assert pipe is not None  # noqa: S101
        with contextlib.suppress(OSError), pipe:  # where it has died, `_read` reports it
            while (content := process.outbox.get()) is not None:
                write_message(pipe, content)

    def _handle(self, process: _Process, message: Any) -> Outcome | None:
        process.last_sign_s = time.monotonic()
        task = process.task
        if message is None:
            return self._bury(process)
        match message:
            case ("log", line):
                if task is not None:
                    self._on_log(task, line)
                return None
            case ("warning", name, level, line):
                logging.getLogger(name).log(level, "%s", line)
                return None
        if task is None:
            return None
        process.task = None
        kind, value = message
        return Outcome(task=task, result=value) if kind == "result" else Outcome(task=task, error=value)

    def _bury(self, process: _Process) -> Outcome | None:
        """The outcome of a task whose worker has ended; None where it was free."""
        if process not in self._processes:
            return None
        self._processes.remove(process)
        process.outbox.put(None)
        status = process.popen.wait()
        shutil.rmtree(process.scratch, ignore_errors=True)
        if process.task is None:
            return None
        death = process.end
        if death is None:
            found = describe_death(process.task.name, status, before=process.oom_kills)
            death = Death(cause=found.cause, is_crash=found.is_crash)
        return Outcome(task=process.task, death=death)

    def _check_limits(self) -> None:
        """Kill workers that hang or hold too much memory."""
        self._last_check_s = time.monotonic()
        for process in self._processes:
            if process.task is None or process.end is not None:
                continue
            if time.monotonic() - process.last_sign_s > SILENCE_LIMIT_S:
                process.end = Death(cause="over its time limit", is_crash=True)
            elif self._memory_limit is not None and _resident_bytes(process.popen.pid) > self._memory_limit:
                process.end = Death(cause="over its memory limit", is_crash=True)
            if process.end is not None:
                process.popen.kill()


def _resident_bytes(pid: int) -> int:
    """Memory that a process holds, in bytes; 0 where the system does not tell."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
