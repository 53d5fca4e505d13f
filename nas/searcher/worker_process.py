"""Process of a worker: reads evaluators and tasks from standard input, and writes results to standard output.

It ends with the driver that started it, however that ends: its standard input then closes. Messages are pickles:

    driver to worker    `PickledEvaluator` | `Task`
    worker to driver    ("log", line) | ("warning", logger, level, line)
                        ("result", `TaskResult`) | ("error", exception)
"""

import faulthandler
import logging
import os
import pickle
import queue
import shutil
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch

from nas.errors import one_line
from nas.latency.measured.gc_control import gc_frozen
from nas.latency.measured.quiet_host import QuietHost, host_folder
from nas.latency.measured.reference_cache import reference_cache_path
from nas.latency.measured.worker import TimingWorker
from nas.searcher.executor import Task, read_message, write_message
from nas.searcher.worker import Worker


class _Channel:
    """The way to the driver. A message is written whole; the process ends where nobody reads it any more."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._lock = file, threading.Lock()

    def send(self, *message: Any) -> None:
        try:
            content = pickle.dumps(message)
        except Exception as error:  # an exception or a value that cannot be pickled
            text = f"{type(message[-1]).__name__}: {one_line(error)}"
            content = pickle.dumps(("error", RuntimeError(f"the result cannot be sent: {text}")))
        try:
            with self._lock:
                write_message(self._file, content)
        except BrokenPipeError:
            os._exit(0)


class Forwarder(logging.Handler):
    """Sends warnings to the driver, which knows what the terminal shows.

    Args:
        send: receives "warning", logger, level and line.
    """

    def __init__(self, send: Callable[..., None]) -> None:
        super().__init__(logging.INFO)
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Send one warning."""
        self._send("warning", record.name, record.levelno, record.getMessage())


def serve(scratch: Path) -> None:
    """Take tasks until standard input closes, also amid a task: whoever sent it is gone.

    Args:
        scratch: folder for the files of tasks; removed at the end.
    """
    # The pipe moves to a descriptor that only this function knows; descriptor 1 becomes standard error, so that what
    # libraries print cannot corrupt a message.
    channel = _Channel(os.fdopen(os.dup(sys.stdout.fileno()), "wb"))
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    faulthandler.enable()
    logging.basicConfig(level=logging.WARNING, handlers=[Forwarder(channel.send)])
    quiet_host = QuietHost(host_folder())
    torch.set_num_threads(1)  # apart from training, the work is many tiny operations that threads only slow down
    messages: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(messages, scratch), daemon=True).start()
    worker: Worker | None = None
    fault: Exception | None = None
    with gc_frozen(), TimingWorker(reference_cache=reference_cache_path()) as timing_worker:
        while True:
            is_task, content = False, messages.get()
            try:
                message = pickle.loads(content)  # noqa: S301  from the process that started this one
                is_task = isinstance(message, Task)
                if not is_task:
                    fault = None
                    worker = Worker(
                        message.restore(),
                        scratch=scratch,
                        log=lambda line: channel.send("log", line),
                        timing_worker=timing_worker,
                        quiet_host=quiet_host,
                    )
                elif worker is not None and fault is None:
                    channel.send("result", worker.run(message))
                else:
                    channel.send("error", fault)
            except Exception as error:
                if is_task or worker is not None:
                    channel.send("error", error)
                else:
                    fault = error  # told with the first task


def _read(messages: "queue.SimpleQueue[bytes]", scratch: Path) -> None:
    """Hand on the driver's messages as they come, and end the process where there are no more."""
    with suppress(EOFError, OSError):
        while True:
            messages.put(read_message(sys.stdin.buffer))
    shutil.rmtree(scratch, ignore_errors=True)
    os._exit(0)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
