"""How a training goes: a point of loss and accuracy for each epoch, and the end of one whose loss is not finite.

Losses and hits are summed where they are, on the device: it is waited for every 16th step only.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nas.errors import TrainError

_CHECK_INTERVAL_STEPS = 16
_PROGRESS_INTERVAL_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """How one call of `train` went.

    Attributes:
        points: (epoch, loss, accuracy on the changed training images) after each epoch and at the end.
        epochs: how far it got, in epochs; less than asked only if `should_stop` said so.
        seconds: of the whole call.
        images_per_second: images trained on per second of it.
    """

    points: tuple[tuple[float, float, float], ...]
    epochs: float
    seconds: float
    images_per_second: float


class LearningCurveRecorder:
    """Sums losses and hits, closes a point of the curve each epoch, and refuses a loss that is not finite."""

    def __init__(self, *, images_per_epoch: int, on_progress: Callable[[float, float], None] | None) -> None:
        self.points: list[tuple[float, float, float]] = []
        self.images_seen, self._images_per_epoch, self._on_progress = 0, images_per_epoch, on_progress
        self._losses: list[Tensor] = []
        self._n_correct: list[Tensor] = []
        self._images_since_point, self._n_steps, self._last_progress_time = 0, 0, 0.0

    @property
    def epoch(self) -> float:
        """Epochs so far."""
        return self.images_seen / self._images_per_epoch

    def add(self, loss: Tensor, n_correct: Tensor, n_images: int) -> None:
        """Take in one step: its mean loss and count of hits, scalars on any device, and how many images it saw.

        Raises:
            TrainError: the loss is not finite (looked at in the first step, every 16th and at the end of an epoch).
        """
        self._losses.append(loss)
        self._n_correct.append(n_correct)
        self._n_steps += 1
        before, self.images_seen = int(self.epoch + 1e-9), self.images_seen + n_images
        self._images_since_point += n_images
        if self._n_steps % _CHECK_INTERVAL_STEPS == 0 or self._n_steps == 1:
            self._check_loss(float(loss))
        if int(self.epoch + 1e-9) > before:
            self.close_point()

    def close_point(self) -> None:
        """Close the point that is open, if any step came since the last one; raises what `add` raises."""
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
