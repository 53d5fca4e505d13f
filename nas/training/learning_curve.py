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

_CHECK_STEPS = 16
_PROGRESS_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Curve:
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


class Log:
    """Sums losses and hits, closes a point of the curve each epoch, and refuses a loss that is not finite."""

    def __init__(self, *, per_epoch: int, progress: Callable[[float, float], None] | None) -> None:
        self.points: list[tuple[float, float, float]] = []
        self.images, self._per_epoch, self._progress = 0, per_epoch, progress
        self._sums: list[Tensor] = []
        self._hits: list[Tensor] = []
        self._since, self._steps, self._told = 0, 0, 0.0

    @property
    def epoch(self) -> float:
        """Epochs so far."""
        return self.images / self._per_epoch

    def add(self, loss: Tensor, hits: Tensor, images: int) -> None:
        """Take in one step: its mean loss and count of hits, scalars on any device, and how many images it saw.

        Raises:
            TrainError: the loss is not finite (looked at in the first step, every 16th and at the end of an epoch).
        """
        self._sums.append(loss)
        self._hits.append(hits)
        self._steps += 1
        before, self.images = int(self.epoch + 1e-9), self.images + images
        self._since += images
        if self._steps % _CHECK_STEPS == 0 or self._steps == 1:
            self._check(float(loss))
        if int(self.epoch + 1e-9) > before:
            self.close()

    def close(self) -> None:
        """Close the point that is open, if any step came since the last one; raises what `add` raises."""
        if not self._since:
            return
        loss = float(torch.stack(self._sums).mean())
        self.points.append((self.epoch, loss, int(torch.stack(self._hits).sum()) / self._since))
        self._sums, self._hits, self._since = [], [], 0
        self._told = 0.0
        self._check(loss)

    def _check(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise TrainError(
                f"the loss must be finite, but got {loss} in epoch {self.epoch:.2f}; lower the learning rate"
            )
        now = time.perf_counter()
        if self._progress is not None and now - self._told >= _PROGRESS_SECONDS:
            self._told = now
            self._progress(self.epoch, loss)
