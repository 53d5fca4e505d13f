"""Which grid fits an activation: watched on calibration images, clipped where that lowers the squared error."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx

from nas.compressors._fake_quant import FakeQuant

Floats = npt.NDArray[np.float32]

BATCH = 64
SAMPLES = 4096
"""Values kept of each tensor and batch for the squared error; the extremes are exact."""
CLIPS = (1.0, 1.01, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5)
"""Shares of the full range that are tried; 1.01 for pixels around 127.5, which all fall on ties of a grid of 1.0."""


@dataclass
class Range:
    """What was seen of one tensor, or of several that share a grid: extremes, always around 0, and a sample."""

    low: float = 0.0
    high: float = 0.0
    samples: list[Floats] = field(default_factory=list)

    def see(self, values: Tensor) -> None:
        """Take in one batch's values, any shape."""
        flat = values.detach().flatten()
        low, high = torch.aminmax(flat)
        self.low, self.high = min(self.low, float(low)), max(self.high, float(high))
        step = max(1, flat.numel() // SAMPLES) | 1  # odd, so that it does not walk along one column
        self.samples.append(flat[::step].numpy().copy())

    def join(self, other: "Range") -> "Range":
        """Both together."""
        return Range(min(self.low, other.low), max(self.high, other.high), self.samples + other.samples)

    def grid(self, *, signed: bool) -> FakeQuant:
        """The grid with the least squared error on the sample among the clipped ranges; ties take the wider one."""
        values = np.concatenate(self.samples)
        values = values[:: max(1, len(values) // (8 * SAMPLES)) | 1]
        grids = [_grid(self.low * share, self.high * share, signed=signed) for share in CLIPS]
        errors = [_squared_error(values, grid) for grid in grids]
        return grids[int(np.argmin(errors))]


def watch(graph: fx.GraphModule, nodes: Collection[fx.Node], images: npt.NDArray[np.uint8]) -> dict[fx.Node, Range]:
    """Run images [N, C, H, W] through a float graph and note the range of each of these nodes."""
    ranges = {node: Range() for node in nodes}

    class Watcher(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            if n in ranges:
                ranges[n].see(result)
            return result

    watcher = Watcher(graph)
    with torch.no_grad():
        for i in range(0, len(images), BATCH):
            watcher.run(torch.from_numpy(images[i : i + BATCH]).float())
    return ranges


def _grid(low: float, high: float, *, signed: bool) -> FakeQuant:
    if signed:
        return FakeQuant(scale=max(-low, high, 1e-8) / 127, signed=True)
    scale = max(high - low, 1e-8) / 255
    return FakeQuant(scale=scale, zero_point=min(255, max(0, round(-low / scale))))


def _squared_error(values: Floats, grid: FakeQuant) -> float:
    levels = np.clip(np.rint(values / np.float32(grid.scale)) + grid.zero_point, grid.low, grid.high)
    return float(np.square((levels - grid.zero_point) * np.float32(grid.scale) - values).sum())
