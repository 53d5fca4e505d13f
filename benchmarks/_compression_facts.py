"""Published and earlier claims about the compression of small nets, each checked by `compression.py`.

Some are checked on its rows, some by timing. Timings need no accuracy, so they use published nets with random weights
at their published sizes. The expected factors were measured on one thread of a server CPU with AVX-512 VNNI; other CPUs
may differ.
"""

import copy
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks._compression_nets import evenly_spaced_rows
from benchmarks._compression_rows import COMPRESSION_VARIANTS, speedup
from hw_profiles._base import HardwareProfile
from nas.compression.base import CompressionContext
from nas.compression.pipeline import CompressionPipeline
from nas.data.base import FaceData
from nas.models.user_model import UserModelSpace
from nas.onnx_export.exporter import export_onnx
from nas.registry import load
from nas.runtimes.base import Runtime

N_IMAGES = 64
MAX_RATIO = 1.5
"""A clear speed-up or slow-down holds if the factor is on the same side of 1 and off by this ratio at most."""
CLEAR_SPEEDUP = 1.25
"""A factor from here on is a clear speed-up, and one below its inverse a clear slow-down."""
MIN_SPEEDUP = 1.1
"""A factor below this is no speed-up: on a busy machine equal files differ by as much."""

PUBLISHED_INT8_SPEEDUPS: tuple[
    tuple[str, dict[str, Any], float], ...
] = (  # model, options, published speed-up of INT8 over FP32
    ("resnet18", {"width": 64}, 3.9),
    ("plain_cnn", {}, 3.6),
    ("plain_cnn", {"widths": (32, 64, 96, 128)}, 3.3),
    ("mobilenet_v2", {"width": 0.5}, 1.8),
    ("mobilenet_v3_small", {}, 1.24),
    ("darts_v2", {}, 1.23),
    ("mini_xception", {}, 0.71),
    ("resemotenet_c", {}, 0.80),
    ("pib_darts", {}, 0.32),
)


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One checked claim.

    Attributes:
        claim: in words.
        source: where it is from.
        holds: whether it holds here.
        figure: the measured figures.
    """

    claim: str
    source: str
    holds: bool
    figure: str


def check_facts(
    rows: Sequence[dict[str, Any]], data: FaceData, profile: HardwareProfile, runtime: Runtime
) -> list[Fact]:
    """All claims that can be checked.

    Claims about rows are checked on those that `rows` contains.
    """
    with tempfile.TemporaryDirectory() as folder:
        checks = _SpeedupChecks(data, profile, runtime, Path(folder))
        return [*_check_rows(rows), *checks.int8(), *checks.channels(), *checks.cells(), _check_xception_params()]


def _check_rows(rows: Sequence[dict[str, Any]]) -> Iterable[Fact]:
    by_net_and_row = {(row["net"], row["row"]): row for row in rows if "accuracy" in row}
    nets = list(dict.fromkeys(net for net, _ in by_net_and_row))

    def values_by_net(variant: str, key: str) -> dict[str, float]:
        return {net: float(by_net_and_row[net, variant][key]) for net in nets if (net, variant) in by_net_and_row}

    def lost_points(variant: str) -> dict[str, float]:
        fp32 = values_by_net("float", "accuracy")
        return {
            net: 100 * (fp32[net] - value) for net, value in values_by_net(variant, "accuracy").items() if net in fp32
        }

    zeros = values_by_net("unstructured90", "speedup_p5")
    if zeros:
        yield Fact(
            claim="90 % unstructured zeros make no file faster", source="ONNX Runtime: 0.186 to 0.188 ms",
            holds=all(1 / MIN_SPEEDUP < factor < MIN_SPEEDUP for factor in zeros.values()),
            figure=_format_values(zeros),
        )  # fmt: skip
    halved, quartered = values_by_net("structured50", "speedup_p5"), values_by_net("structured75", "speedup_p5")
    if halved and quartered:
        yield Fact(
            claim="removing channels on the hardware's grid makes every net faster, more so the more are removed",
            source="latency is a step function of the channels",
            holds=all(1 < halved[net] < quartered[net] for net in halved if net in quartered),
            figure=f"50 %: {_format_values(halved)}; 75 %: {_format_values(quartered)}",
        )
    dense = {net: factor for net, factor in values_by_net("ptq", "speedup_p5").items() if net in ("plain", "residual")}
    mixed = {net: factor for net, factor in values_by_net("mixed", "speedup_p5").items() if net in dense}
    if mixed:
        yield Fact(
            claim="in small dense nets INT8 is faster with an FP32 stem and head than in all units",
            source="plain 16-32-64: 0.75 in all units, 1.40 with an FP32 stem",
            holds=all(mixed[net] > dense[net] for net in mixed if net in dense),
            figure=f"all units {_format_values(dense)}; stem and head FP32 {_format_values(mixed)}",
        )
    trained = {net: value for net, value in lost_points("qat").items() if net in ("plain", "residual")}
    if trained:
        yield Fact(
            claim="quantisation-aware training loses at most 0.5 points on the dense and the residual net",
            source="the bar of this project",
            holds=all(value <= 0.5 for value in trained.values()),
            figure=", ".join(f"{net} {-value:+.2f} points" for net, value in trained.items()),
        )


class _SpeedupChecks:
    """Timings of published nets with random weights, side by side."""

    def __init__(self, data: FaceData, profile: HardwareProfile, runtime: Runtime, folder: Path) -> None:
        self._data, self._profile, self._runtime, self._folder = data, profile, runtime, folder
        self._count = 0

    def int8(self) -> Iterable[Fact]:
        """INT8 speed-ups by architecture, with all units in INT8 and with stem and head in FP32."""
        for word, options, published in PUBLISHED_INT8_SPEEDUPS:
            net = self._make_net(word, **options)
            fp32_path = self._export_file(net, "float")
            speedups = {
                variant: self._speedup(self._export_file(net, variant), fp32_path) for variant in ("ptq", "mixed")
            }
            name = _describe_model(word, options)
            claim = f"INT8 makes {name} {published:g} times as fast"
            if _is_negligible(published):
                claim = f"INT8 speeds {name} up little or not at all ({published:g} times as fast)"
            yield Fact(
                claim=claim, source="earlier measurement, per channel, all units",
                holds=_agrees(speedups["ptq"][0], published),
                figure=f"{speedups['ptq'][1]}; with stem and head FP32 {speedups['mixed'][1]}",
            )  # fmt: skip

    def channels(self) -> Iterable[Fact]:
        """Widths off the hardware's grid of channels cost more than the nearest width on it."""
        for width, off_grid, published in ((48, 47, 1.5), (32, 33, 1.93)):
            files = [
                self._export_file(self._make_net("plain_cnn", widths=(w, w, w)), "float") for w in (width, off_grid)
            ]
            slowdown, figure = self._speedup(*files)
            yield Fact(
                claim=f"{off_grid} channels are slower than {width}, {published:g} times",
                source="convolutions in ONNX Runtime", holds=slowdown > MIN_SPEEDUP, figure=figure,
            )  # fmt: skip

    def cells(self) -> Iterable[Fact]:
        """PIBConv cells against separable convolutions at about equal multiply-accumulates."""
        files = [self._export_file(self._make_net(word), "float") for word in ("darts_v2", "pib_darts")]
        slowdown, figure = self._speedup(*files)
        yield Fact(
            claim="PIBConv cells are about 3 times slower than DARTS V2 at equal multiply-accumulates",
            source="2.2-2.9 ms at 26 MMAC against 0.68-0.95 ms at 24", holds=2 <= slowdown <= 4.5, figure=figure,
        )  # fmt: skip

    def _make_net(self, name: str, **options: Any) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net: nn.Module = load("model", name).build(
                input_shape=self._data.input_shape, classes=len(self._data.classes), **options
            )
        faces = self._data.train.images[evenly_spaced_rows(self._data, N_IMAGES)]
        net.train()
        with torch.no_grad():  # batch statistics of real faces, so that INT8 ranges are realistic
            for _ in range(3):
                net(torch.from_numpy(faces).float())
        return net.eval()

    def _export_file(self, net: nn.Module, variant: str) -> Path:
        shape, multiple = self._data.input_shape, self._profile.channel_multiple
        space = UserModelSpace("net", net, input_shape=shape, channel_multiple=multiple)
        compression = CompressionPipeline(compressors=[load("compressor", "quantize")], profile=self._profile)
        rows = evenly_spaced_rows(self._data, N_IMAGES)
        context = CompressionContext(
            candidate=compression.decode(space, COMPRESSION_VARIANTS[variant].genes(space.stages)),
            profile=self._profile,
            input_shape=shape, images=self._data.train.images[rows],
            labels=np.asarray(self._data.train.labels[rows], dtype=np.int64),
        )  # fmt: skip
        self._count += 1
        path = self._folder / f"{self._count}.onnx"
        graph = compression.compress_graph(copy.deepcopy(net), context)
        export_onnx(graph, path, input_shape=shape, classes=self._data.classes, metadata={})
        return path

    def _speedup(self, path: Path, fp32_path: Path) -> tuple[float, str]:
        """How many times as fast `path` is as `fp32_path`, by the 5th percentile, and the same in words."""
        measured = speedup(path, fp32_path, self._runtime, self._profile, self._data.input_shape)
        factor = float(measured["speedup_p5"])
        return factor, f"{factor:.2f} ({measured['twin_p5_ms']:.3f} to {measured['p5_ms']:.3f} ms)"


def _check_xception_params() -> Fact:
    """The parameter count of a published `pruned` mini_XCEPTION is that of the unpruned net."""
    net = load("model", "mini_xception").build(input_shape=(1, 64, 64), classes=7)
    weights = sum(p.numel() for p in net.parameters())
    statistics = sum(b.numel() for b in net.buffers() if b.ndim)
    return Fact(
        claim="the 58,423 parameters of a published `pruned` mini_XCEPTION are those of the unpruned net",
        source="Keras counts batch-norm statistics", holds=weights + statistics == 58_423,
        figure=f"{weights:,} weights + {statistics:,} statistics",
    )  # fmt: skip


def _is_negligible(factor: float) -> bool:
    return 1 / CLEAR_SPEEDUP < factor < CLEAR_SPEEDUP


def _agrees(measured: float, published: float) -> bool:
    if _is_negligible(published):
        return _is_negligible(measured)
    return (measured > 1) == (published > 1) and 1 / MAX_RATIO <= measured / published <= MAX_RATIO


def _describe_model(name: str, options: dict[str, Any]) -> str:
    return name + (f" ({', '.join(f'{k} {v}' for k, v in options.items())})" if options else "")


def _format_values(values: dict[str, float]) -> str:
    return ", ".join(f"{net} {value:.2f}" for net, value in values.items())
