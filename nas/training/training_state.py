"""State of a training amid its schedule: what a killed or paused training goes on from, to the same weights.

The state is one file: weights, averages, the optimiser, every random generator, and the curve so far. A training that
is asked to pause writes it and raises `StepPausedError`; the next call with the same file goes on with the next step.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nas.files import write_atomic

_MIN_KEPT_S = 20.0
"""Seconds of a training from which on its end is worth a file: a shorter one is repeated."""


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """Where a training keeps its state, and when it pauses.

    Attributes:
        path: of the file; it may not exist yet.
        should_pause: called before each step.
    """

    path: Path
    should_pause: Callable[[], bool]

    def read(self, identity: str) -> dict[str, Any] | None:
        """The stored state; None without one, or where it is of another training."""
        if not self.path.exists():
            return None
        stored: dict[str, Any] = torch.load(self.path, weights_only=True)
        return stored if stored["identity"] == identity else None

    def write(self, identity: str, state: dict[str, Any]) -> None:
        """Write the state as a whole file.

        Raises:
            OSError: the folder cannot be written, or the disk is full.
        """
        buffer = io.BytesIO()
        torch.save({"identity": identity, **state}, buffer)
        write_atomic(self.path, buffer.getvalue())

    def write_end(self, identity: str, state: dict[str, Any]) -> None:
        """Write the state of a finished training, if repeating it would take long."""
        if state["seconds"] >= _MIN_KEPT_S:
            self.write(identity, state)
