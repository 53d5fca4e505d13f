"""Learning curve: loss and training accuracy for each epoch, and a check that the loss stays finite.

Losses and counts stay on the device and are summed there. Reading a value waits for the device, so the check reads one
in every 16th step only.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nas.errors import TrainError

_CHECK_INTERVAL_STEPS = 16
_PROGRESS_INTERVAL_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """Result of one call of `nas.training.loop.train`.

    Attributes:
        points: (epoch, mean loss, accuracy on augmented training images, 0..1) after each epoch and at the end.
        epochs: epochs trained for; fewer than requested only if `should_stop` ended the training.
        seconds: of the whole call.
        images_per_second: training images per second of the whole call.
        seconds_before: of earlier calls, which this one went on from; part of `seconds`.
    """

    points: tuple[tuple[float, float, float], ...]
    epochs: float
    seconds: float
    images_per_second: float
    seconds_before: float = 0.0


class LearningCurveRecorder:
    """Sums losses and correct predictions, adds a point each epoch, and raises where the loss is not finite."""

    def __init__(self, *, images_per_epoch: int, on_progress: Callable[[float, float], None] | None) -> None:
        self.points: list[tuple[float, float, float]] = []
        self.images_seen, self._images_per_epoch, self._on_progress = 0, images_per_epoch, on_progress
        self._losses: list[Tensor] = []
        self._n_correct: list[Tensor] = []
        self._images_since_point, self._n_steps, self._last_progress_time = 0, 0, 0.0

    def state(self) -> dict[str, Any]:
        """What `load_state` takes in another recorder of the same training."""
        return {
            "points": [list(point) for point in self.points], "images_seen": self.images_seen,
            "losses": self._losses, "correct": self._n_correct, "since": self._images_since_point,
            "steps": self._n_steps,
        }  # fmt: skip

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.points = [tuple(point) for point in state["points"]]
        self.images_seen, self._images_since_point = state["images_seen"], state["since"]
        self._losses, self._n_correct = list(state["losses"]), list(state["correct"])
        self._n_steps = state["steps"]

    @property
    def epoch(self) -> float:
        """Epochs so far, with fractions."""
        return self.images_seen / self._images_per_epoch

    def add(self, loss: Tensor, n_correct: Tensor, n_images: int) -> None:
        """Add one step.

        Args:
            loss: mean loss of the batch, a scalar on any device.
            n_correct: correct predictions in the batch, a scalar on any device.
            n_images: images in the batch.

        Raises:
            TrainError: the loss is not finite; checked in the first step, in every 16th and at the end of an epoch.
        """
        self._losses.append(loss)
        self._n_correct.append(n_correct)
        self._n_steps += 1
        # Fractions of an epoch add up with rounding errors: without the small term an epoch could end a step late.
        before, self.images_seen = int(self.epoch + 1e-9), self.images_seen + n_images
        self._images_since_point += n_images
        if self._n_steps % _CHECK_INTERVAL_STEPS == 0 or self._n_steps == 1:
            self._check_loss(float(loss))
        if int(self.epoch + 1e-9) > before:
            self.close_point()

    def close_point(self) -> None:
        """Add a point for the steps since the last one, if there are any.

        Raises:
            TrainError: the loss is not finite.
        """
        if not self._images_since_point:
            return
        loss = float(torch.stack(self._losses).mean())
        self.points.append((self.epoch, loss, int(torch.stack(self._n_correct).sum()) / self._images_since_point))
        self._losses, self._n_correct, self._images_since_point = [], [], 0
        self._last_progress_time = 0.0
        self._check_loss(loss)

    def _check_loss(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise TrainError(
                f"the loss must be finite, but got {loss} in epoch {self.epoch:.2f}; lower the learning rate"
            )
        now = time.perf_counter()
        if self._on_progress is not None and now - self._last_progress_time >= _PROGRESS_INTERVAL_SECONDS:
            self._last_progress_time = now
            self._on_progress(self.epoch, loss)
