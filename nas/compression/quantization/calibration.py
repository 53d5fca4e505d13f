"""Calibration of activations: ranges observed on images, clipped by the calibration method, and the resulting grids."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx

from hw_profiles._base import INT8_BITS
from nas.compression.quantization.affine import MIN_RANGE, affine_scale_zero_point, narrow_range_scale
from nas.compression.quantization.clipping import CLIPPING_METHODS, HISTOGRAM_BINS
from nas.compression.quantization.fake_quantize import FakeQuantize
from nas.errors import ExportError
from nas.onnx_export.node_callback import run_with_callback

Floats = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]

CALIBRATION_METHODS = ("entropy", "minmax", "mse", "percentile")
"""`minmax` clips nothing, `mse` minimises the squared error; see `nas.compression.quantization.clipping` for the
others."""
CALIBRATION_GENE, DEFAULT_CALIBRATION = "calibration", "mse"
"""A candidate without the setting is calibrated by `mse`, as in all run folders so far."""
RECOMMENDED_CALIBRATION = "entropy"
"""The only method that was never the worst and always near the best, see `python -m benchmarks.calibration`."""
BATCH_SIZE = 64
SAMPLES_PER_BATCH = 4096
"""Values sampled from each tensor and batch for the squared error; the extremes are exact."""
MSE_CLIP_RATIOS = (1.0, 1.01, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5)
"""Tried shares of the full range. 1.01 is for pixels around 127.5, which all fall on ties of a grid with scale 1.0."""


@dataclass
class RangeObserver:
    """Observed values of one tensor, or of several that share a grid: extremes, always around 0, and a sample.

    Attributes:
        min_value: smallest value, at most 0.
        max_value: largest value, at least 0.
        samples: sampled values, one array per batch.
        histogram: counts [HISTOGRAM_BINS] in equal parts of min_value..max_value, without values that are exactly 0;
            filled only for methods that need it.
        zero_count: number of values that are exactly 0.
    """

    min_value: float = 0.0
    max_value: float = 0.0
    samples: list[Floats] = field(default_factory=list)
    histogram: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(HISTOGRAM_BINS))
    zero_count: int = 0

    def observe(self, values: Tensor) -> None:
        """Include one batch's values, any shape."""
        flat = values.detach().flatten()
        low, high = torch.aminmax(flat)
        self.min_value, self.max_value = min(self.min_value, float(low)), max(self.max_value, float(high))
        step = max(1, flat.numel() // SAMPLES_PER_BATCH) | 1  # odd: an even stride would sample few columns only
        self.samples.append(flat[::step].numpy().copy())

    def update_histogram(self, values: Tensor) -> None:
        """Count one batch's values, any shape, once the extremes are known."""
        others = values.detach()[values != 0]
        self.zero_count += values.numel() - others.numel()
        if self.max_value > self.min_value:
            self.histogram += torch.histc(others, HISTOGRAM_BINS, self.min_value, self.max_value).double().numpy()

    def merge(self, other: "RangeObserver") -> "RangeObserver":
        """The observations of both tensors, with an empty histogram."""
        return RangeObserver(
            min(self.min_value, other.min_value), max(self.max_value, other.max_value), self.samples + other.samples
        )

    def fake_quantize(self, *, signed: bool, method: str = "mse") -> FakeQuantize:
        """The grid by this method.

        - `minmax`: the whole range.
        - `mse`: the least squared error on the sample among `MSE_CLIP_RATIOS`; ties take the first ratio.
        - `entropy` and `percentile`: need a histogram; without one they are `minmax`.

        Args:
            signed: int8 with zero point 0 instead of uint8 with a zero point.
            method: one of `CALIBRATION_METHODS`.

        Raises:
            ExportError: the method is unknown.
        """
        if method not in CALIBRATION_METHODS:
            raise ExportError(f"calibration must be one of {', '.join(CALIBRATION_METHODS)}, but got {method!r}")
        if method == "mse":
            return self._min_mse(signed=signed)
        low, high = self.min_value, self.max_value
        if method in CLIPPING_METHODS and self.histogram.any():
            # A symmetric grid spans the longer side twice: the range itself gets only its share of the levels.
            levels = round(255 * (high - low) / (2 * max(-low, high))) if signed else 256
            low, high = CLIPPING_METHODS[method](self._histogram(with_zeros=method == "percentile"), low, high, levels)
        return _make_fake_quantize(low, high, signed=signed)

    def _histogram(self, *, with_zeros: bool) -> npt.NDArray[np.float64]:
        counts = self.histogram.copy()
        if with_zeros:
            zero_bin = int(-self.min_value / (self.max_value - self.min_value) * HISTOGRAM_BINS)
            counts[min(HISTOGRAM_BINS - 1, zero_bin)] += self.zero_count
        return counts

    def _min_mse(self, *, signed: bool) -> FakeQuantize:
        values = np.concatenate(self.samples)
        values = values[:: max(1, len(values) // (8 * SAMPLES_PER_BATCH)) | 1]
        grids = [
            _make_fake_quantize(self.min_value * ratio, self.max_value * ratio, signed=signed)
            for ratio in MSE_CLIP_RATIOS
        ]
        errors = [_squared_error(values, grid) for grid in grids]
        return grids[int(np.argmin(errors))]


def observe_ranges(graph: fx.GraphModule, nodes: Collection[fx.Node], images: Images) -> dict[fx.Node, RangeObserver]:
    """Run images [N, C, H, W] through a float graph and observe the ranges of these nodes."""
    ranges = {node: RangeObserver() for node in nodes}
    _run_observers(graph, images, {node: observer.observe for node, observer in ranges.items()})
    return ranges


def observe_histograms(graph: fx.GraphModule, ranges: Mapping[fx.Node, RangeObserver], images: Images) -> None:
    """Run images [N, C, H, W] through a float graph again and fill the histograms of these nodes."""
    _run_observers(graph, images, {node: observer.update_histogram for node, observer in ranges.items()})


def _run_observers(
    graph: fx.GraphModule, images: Images, observers: Mapping[fx.Node, Callable[[Tensor], None]]
) -> None:
    def observe(node: fx.Node, value: Tensor) -> Tensor:
        if node in observers:
            observers[node](value)
        return value

    with torch.no_grad():
        for i in range(0, len(images), BATCH_SIZE):
            run_with_callback(graph, torch.from_numpy(images[i : i + BATCH_SIZE]).float(), observe)


def _make_fake_quantize(low: float, high: float, *, signed: bool) -> FakeQuantize:
    if signed:
        return FakeQuantize(scale=narrow_range_scale(max(-low, high, MIN_RANGE), bits=INT8_BITS), signed=True)
    scale, zero_point = affine_scale_zero_point(low, high, bits=INT8_BITS)
    return FakeQuantize(scale=scale, zero_point=zero_point)


def _squared_error(values: Floats, fake_quantize: FakeQuantize) -> float:
    levels = np.clip(
        np.rint(values / np.float32(fake_quantize.scale)) + fake_quantize.zero_point,
        fake_quantize.quant_min,
        fake_quantize.quant_max,
    )
    return float(np.square((levels - fake_quantize.zero_point) * np.float32(fake_quantize.scale) - values).sum())
