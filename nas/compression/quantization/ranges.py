"""Which grid fits an activation: watched on calibration images, cut off as the calibration method says."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx

from nas.compression.quantization.affine import LEAST, affine_grid, narrow_step
from nas.compression.quantization.calibration import BINS, CUTS
from nas.compression.quantization.fake_quantize import FakeQuant
from nas.errors import ExportError

Floats = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]

METHODS = ("entropy", "minmax", "mse", "percentile")
"""`minmax` cuts nothing off, `mse` what lowers the squared error; see `_calibration` for the others."""
BATCH = 64
SAMPLES = 4096
"""Values kept of each tensor and batch for the squared error; the extremes are exact."""
CLIPS = (1.0, 1.01, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5)
"""Shares of the full range that are tried; 1.01 for pixels around 127.5, which all fall on ties of a grid of 1.0."""


@dataclass
class Range:
    """What was seen of one tensor, or of several that share a grid: extremes, always around 0, and a sample.

    Attributes:
        low: the least value seen, or 0.
        high: the largest, or 0.
        samples: some of the values.
        counts: [BINS] values in equal parts of low..high, without those that are exactly 0; only where a method asks.
        zeros: values that are exactly 0.
    """

    low: float = 0.0
    high: float = 0.0
    samples: list[Floats] = field(default_factory=list)
    counts: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(BINS))
    zeros: int = 0

    def see(self, values: Tensor) -> None:
        """Take in one batch's values, any shape."""
        flat = values.detach().flatten()
        low, high = torch.aminmax(flat)
        self.low, self.high = min(self.low, float(low)), max(self.high, float(high))
        step = max(1, flat.numel() // SAMPLES) | 1  # odd, so that it does not walk along one column
        self.samples.append(flat[::step].numpy().copy())

    def count(self, values: Tensor) -> None:
        """Count one batch's values, any shape, once the extremes are known."""
        others = values.detach()[values != 0]
        self.zeros += values.numel() - others.numel()
        if self.high > self.low:
            self.counts += torch.histc(others, BINS, self.low, self.high).double().numpy()

    def join(self, other: "Range") -> "Range":
        """Both together, nothing counted yet."""
        return Range(min(self.low, other.low), max(self.high, other.high), self.samples + other.samples)

    def grid(self, *, signed: bool, method: str = "mse") -> FakeQuant:
        """The grid by this method.

        `mse`: the least squared error on the sample among `CLIPS`; ties take the wider one. `entropy` and `percentile`
        need counts.

        Raises:
            ExportError: the method is unknown.
        """
        if method not in METHODS:
            raise ExportError(f"calibration must be one of {', '.join(METHODS)}, but got {method!r}")
        if method == "mse":
            return self._least_squares(signed=signed)
        low, high = self.low, self.high
        if method in CUTS and self.counts.any():
            levels = round(255 * (high - low) / (2 * max(-low, high))) if signed else 256
            low, high = CUTS[method](self._counted(with_zeros=method == "percentile"), low, high, levels)
        return _grid(low, high, signed=signed)

    def _counted(self, *, with_zeros: bool) -> npt.NDArray[np.float64]:
        counts = self.counts.copy()
        if with_zeros:
            counts[min(BINS - 1, int(-self.low / (self.high - self.low) * BINS))] += self.zeros
        return counts

    def _least_squares(self, *, signed: bool) -> FakeQuant:
        values = np.concatenate(self.samples)
        values = values[:: max(1, len(values) // (8 * SAMPLES)) | 1]
        grids = [_grid(self.low * share, self.high * share, signed=signed) for share in CLIPS]
        errors = [_squared_error(values, grid) for grid in grids]
        return grids[int(np.argmin(errors))]


def watch(graph: fx.GraphModule, nodes: Collection[fx.Node], images: Images) -> dict[fx.Node, Range]:
    """Run images [N, C, H, W] through a float graph and note the range of each of these nodes."""
    ranges = {node: Range() for node in nodes}
    _run(graph, images, {node: found.see for node, found in ranges.items()})
    return ranges


def count(graph: fx.GraphModule, ranges: Mapping[fx.Node, Range], images: Images) -> None:
    """Run images [N, C, H, W] through a float graph again and count the values of these nodes in their ranges."""
    _run(graph, images, {node: found.count for node, found in ranges.items()})


def _run(graph: fx.GraphModule, images: Images, told: Mapping[fx.Node, Callable[[Tensor], None]]) -> None:
    class Watcher(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            if n in told:
                told[n](result)
            return result

    watcher = Watcher(graph)
    with torch.no_grad():
        for i in range(0, len(images), BATCH):
            watcher.run(torch.from_numpy(images[i : i + BATCH]).float())


def _grid(low: float, high: float, *, signed: bool) -> FakeQuant:
    if signed:
        return FakeQuant(scale=narrow_step(max(-low, high, LEAST), bits=8), signed=True)
    scale, zero_point = affine_grid(low, high, bits=8)
    return FakeQuant(scale=scale, zero_point=zero_point)


def _squared_error(values: Floats, grid: FakeQuant) -> float:
    levels = np.clip(np.rint(values / np.float32(grid.scale)) + grid.zero_point, grid.low, grid.high)
    return float(np.square((levels - grid.zero_point) * np.float32(grid.scale) - values).sum())
