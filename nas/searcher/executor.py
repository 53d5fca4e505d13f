"""Contract of an executor: it takes tasks to workers, and brings back what came of each.

A task carries the values and the bytes that it needs, and its result carries those that it made. So a worker shares no
folder with the driver, may be on another machine, and may be replaced at any time.
"""

import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from nas.config import RunFields
from nas.evaluation.evaluator import Evaluator
from nas.pipeline import Step

OnLog = Callable[["Task", str], None]
"""Receives a task and one line about what it does at the moment."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One step for a worker.

    Attributes:
        name: what it is about, for people.
        step: what to do.
        files: the files that the step reads: path below the run folder to content.
        seconds_left: until training has to end; None without a time limit.
    """

    name: str
    step: Step
    files: Mapping[str, bytes] = field(default_factory=dict)
    seconds_left: float | None = None


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """What a step made.

    Attributes:
        value: that it returned.
        files: new and changed files: path below the run folder to content.
        removed: files that it deleted.
        lines: what it added to files of JSON lines: path to text.
        is_paused: whether the step is to be taken again with these files, and has no value yet.
    """

    value: Any
    files: Mapping[str, bytes]
    removed: tuple[str, ...]
    lines: Mapping[str, str]
    is_paused: bool = False


@dataclass(frozen=True, kw_only=True)
class Death:
    """End of a worker amid a task.

    Attributes:
        cause: name of the signal, "out of memory", "over its time limit", or what else is known.
        is_crash: whether the task is to blame, in contrast to a kill or a lost machine.
    """

    cause: str
    is_crash: bool


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a task ended: with a result, an exception, or the death of its worker. Two of the three are None.

    Attributes:
        task: which one.
        result: what it made.
        error: exception that the step raised.
        death: how its worker ended.
    """

    task: Task
    result: TaskResult | None = None
    error: BaseException | None = None
    death: Death | None = None


class Executor(ABC):
    """Workers, and the way to them. One driver uses it, from one thread.

    Life: made with the options of the run, which starts nothing; `configure`; then `submit` and `wait` in turn, with at
    most `n_workers` tasks under way; `close`. `configure` may be called again while no task is under way.

    Promises: every task that was submitted has one outcome, unless the executor is closed before; a worker that dies is
    replaced; after `close`, and after the driver's death, no worker is left.

    Attributes:
        n_workers: tasks that can be under way at once, at least 1.
    """

    n_workers: int

    @abstractmethod
    def __init__(self, options: RunFields, on_log: OnLog) -> None:
        """Check the options; start nothing.

        Raises:
            ConfigError: an option is one that this executor cannot meet.
        """

    @abstractmethod
    def configure(self, evaluator: Evaluator) -> None:
        """Give all workers this evaluator for the tasks that follow."""

    @abstractmethod
    def submit(self, task: Task) -> None:
        """Hand a task to a worker that is free."""

    @abstractmethod
    def wait(self, timeout_s: float) -> Outcome | None:
        """The next outcome; None where no task has ended within the time."""

    @abstractmethod
    def close(self) -> None:
        """End all workers, also amid a task."""


_LENGTH = struct.Struct(">Q")


def write_message(file: IO[bytes], content: bytes) -> None:
    """Write one message to a pipe, after its length.

    Raises:
        OSError: nobody reads the pipe any more.
    """
    file.write(_LENGTH.pack(len(content)))
    file.write(content)
    file.flush()


def read_message(file: IO[bytes]) -> bytes:
    """The next message of a pipe.

    Raises:
        EOFError: the pipe was closed, also amid a message.
    """
    head = file.read(_LENGTH.size)
    content = file.read(_LENGTH.unpack(head)[0]) if len(head) == _LENGTH.size else b""
    if len(head) < _LENGTH.size or len(content) < _LENGTH.unpack(head)[0]:
        raise EOFError("the pipe was closed")
    return content
