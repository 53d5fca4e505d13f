"""Steps for workers, in a module that their processes can import."""

import os
import time
from typing import Any

from nas.evaluation.evaluator import Evaluator

LONG_S = 120.0


def add(evaluator: Evaluator, *, value: int, stop: Any) -> int:
    """A step that reads one file, writes another, and adds to a third."""
    path = evaluator.folder.path
    evaluator.log(f"adds {value}")
    (path / "models" / "sum.txt").write_text(f"{int((path / 'checkpoints' / 'a.txt').read_text()) + value}")
    (path / "checkpoints" / "a.txt").unlink()
    evaluator.folder.append_line("lines.jsonl", f'{{"value": {value}}}')
    return value + len(evaluator.data.train)


def fail(evaluator: Evaluator, *, error: Exception, stop: Any) -> None:
    raise error


def end(evaluator: Evaluator, *, number: int, stop: Any) -> None:
    os.kill(os.getpid(), number)
    time.sleep(LONG_S)


def hold(evaluator: Evaluator, *, megabytes: int, stop: Any) -> None:
    kept = bytearray(megabytes << 20)
    time.sleep(LONG_S + len(kept))


def sleep(evaluator: Evaluator, *, seconds: float, stop: Any) -> tuple[float, float]:
    """Begin and end of a step, by the clock of the host."""
    started = time.monotonic()
    evaluator.log(f"sleeps in process {os.getpid()}")
    time.sleep(seconds)
    return started, time.monotonic()


def ask_to_stop(evaluator: Evaluator, *, stop: Any) -> bool:
    return bool(stop())
