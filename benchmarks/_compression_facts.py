"""What is known about compressing small nets, each fact checked: by the rows of `compression.py`, or by timing.

Timings need no accuracy, so they are of published nets with random weights at their published sizes. The factors to
compare with were measured on one thread of a server processor with AVX-512 VNNI; other processors may differ.
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
"""A clear gain or loss holds if ours is on the same side of 1, and at most this many times larger or smaller."""
CLEAR_SPEEDUP = 1.25
"""A speed-up from here on is a clear gain, and below its inverse a clear loss."""
MIN_SPEEDUP = 1.1
"""A speed-up below this is none: two files side by side differ by as much when the machine is busy."""

PUBLISHED_INT8_SPEEDUPS: tuple[
    tuple[str, dict[str, Any], float], ...
] = (  # word, options, published speed-up of INT8 over float32
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
    """One claim: where it is from, whether it holds, and the figure that says so."""

    claim: str
    source: str
    holds: bool
    figure: str


def check_facts(
    rows: Sequence[dict[str, Any]], data: FaceData, profile: HardwareProfile, runtime: Runtime
) -> list[Fact]:
    """All facts that can be checked: those about rows for the rows that are there."""
    with tempfile.TemporaryDirectory() as folder:
        timing = _SpeedupChecks(data, profile, runtime, Path(folder))
        return [*_check_rows(rows), *timing.int8(), *timing.channels(), *timing.cells(), _check_xception_params()]


def _check_rows(rows: Sequence[dict[str, Any]]) -> Iterable[Fact]:
    found = {(row["net"], row["row"]): row for row in rows if "accuracy" in row}
    nets = list(dict.fromkeys(net for net, _ in found))

    def each(form: str, key: str) -> dict[str, float]:
        return {net: float(found[net, form][key]) for net in nets if (net, form) in found}

    def lost(form: str) -> dict[str, float]:
        kept = each("float", "accuracy")
        return {net: 100 * (kept[net] - value) for net, value in each(form, "accuracy").items() if net in kept}

    zeros = each("unstructured90", "speedup_p5")
    if zeros:
        yield Fact(
            claim="90 % unstructured zeros make no file faster", source="ONNX Runtime: 0.186 to 0.188 ms",
            holds=all(1 / MIN_SPEEDUP < gained < MIN_SPEEDUP for gained in zeros.values()), figure=_format_values(zeros),
        )  # fmt: skip
    halved, quartered = each("structured50", "speedup_p5"), each("structured75", "speedup_p5")
    if halved and quartered:
        yield Fact(
            claim="removing channels on the grid makes every net faster, more the more leave",
            source="cost is a step function of the channels",
            holds=all(1 < halved[net] < quartered[net] for net in halved if net in quartered),
            figure=f"50 %: {_format_values(halved)}; 75 %: {_format_values(quartered)}",
        )
    dense = {net: gained for net, gained in each("ptq", "speedup_p5").items() if net in ("plain", "residual")}
    mixed = {net: gained for net, gained in each("mixed", "speedup_p5").items() if net in dense}
    if mixed:
        yield Fact(
            claim="with a float stem and head INT8 gains more in small dense nets than everywhere",
            source="plain 16-32-64: 0.75 everywhere, 1.40 with a float stem",
            holds=all(mixed[net] > dense[net] for net in mixed if net in dense),
            figure=f"everywhere {_format_values(dense)}; ends float {_format_values(mixed)}",
        )
    trained = {net: value for net, value in lost("qat").items() if net in ("plain", "residual")}
    if trained:
        yield Fact(
            claim="INT8 in training loses at most 0.5 points on the dense and the residual net",
            source="the aim here",
            holds=all(value <= 0.5 for value in trained.values()),
            figure=", ".join(f"{net} {-value:+.2f} points" for net, value in trained.items()),
        )


class _SpeedupChecks:
    """Times published nets with random weights, side by side."""

    def __init__(self, data: FaceData, profile: HardwareProfile, runtime: Runtime, folder: Path) -> None:
        self._data, self._profile, self._runtime, self._folder = data, profile, runtime, folder
        self._count = 0

    def int8(self) -> Iterable[Fact]:
        """The speed-up of INT8 by architecture; all units, and with stem and head in float."""
        for word, options, published in PUBLISHED_INT8_SPEEDUPS:
            net = self._make_net(word, **options)
            plain = self._export_file(net, "float")
            found = {form: self._speedup(self._export_file(net, form), plain) for form in ("ptq", "mixed")}
            name = _describe_model(word, options)
            claim = f"INT8 makes {name} {published:g} times as fast"
            if _is_negligible(published):
                claim = f"INT8 gains {name} little or nothing ({published:g} times as fast)"
            yield Fact(
                claim=claim, source="measured before, per channel, all units",
                holds=_agrees(found["ptq"][0], published),
                figure=f"{found['ptq'][1]}; with stem and head float {found['mixed'][1]}",
            )  # fmt: skip

    def channels(self) -> Iterable[Fact]:
        """Widths beside the grid cost more than the grid's next."""
        for width, beside, published in ((48, 47, 1.5), (32, 33, 1.93)):
            files = [self._export_file(self._make_net("plain_cnn", widths=(w, w, w)), "float") for w in (width, beside)]
            slower, said = self._speedup(*files)
            yield Fact(
                claim=f"{beside} channels are slower than {width}, {published:g} times",
                source="convolutions in ONNX Runtime", holds=slower > MIN_SPEEDUP, figure=said,
            )  # fmt: skip

    def cells(self) -> Iterable[Fact]:
        """PIBConv against separable convolutions at about the same multiply-accumulates."""
        files = [self._export_file(self._make_net(word), "float") for word in ("darts_v2", "pib_darts")]
        slower, said = self._speedup(*files)
        yield Fact(
            claim="PIBConv cells are about 3 times slower than DARTS V2 at as many multiply-accumulates",
            source="2.2-2.9 ms at 26 MMAC against 0.68-0.95 ms at 24", holds=2 <= slower <= 4.5, figure=said,
        )  # fmt: skip

    def _make_net(self, word: str, **options: Any) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net: nn.Module = load("model", word).build(
                input_shape=self._data.input_shape, classes=len(self._data.classes), **options
            )
        faces = self._data.train.images[evenly_spaced_rows(self._data, N_IMAGES)]
        net.train()
        with torch.no_grad():  # statistics of real faces, or INT8 ranges would be those of no net
            for _ in range(3):
                net(torch.from_numpy(faces).float())
        return net.eval()

    def _export_file(self, net: nn.Module, form: str) -> Path:
        shape, multiple = self._data.input_shape, self._profile.channel_multiple
        space = UserModelSpace("net", net, input_shape=shape, channel_multiple=multiple)
        compression = CompressionPipeline(compressors=[load("compressor", "quantize")], profile=self._profile)
        rows = evenly_spaced_rows(self._data, N_IMAGES)
        context = CompressionContext(
            candidate=compression.decode(space, COMPRESSION_VARIANTS[form].genes(space.stages)), profile=self._profile,
            input_shape=shape, images=self._data.train.images[rows],
            labels=np.asarray(self._data.train.labels[rows], dtype=np.int64),
        )  # fmt: skip
        self._count += 1
        path = self._folder / f"{self._count}.onnx"
        graph = compression.compress_graph(copy.deepcopy(net), context)
        export_onnx(graph, path, input_shape=shape, classes=self._data.classes, metadata={})
        return path

    def _speedup(self, path: Path, fp32_path: Path) -> tuple[float, str]:
        """How many times as fast `path` is as `fp32_path`, by the 5th percentile; and the same in words."""
        found = speedup(path, fp32_path, self._runtime, self._profile, self._data.input_shape)
        factor = float(found["speedup_p5"])
        return factor, f"{factor:.2f} ({found['twin_p5_ms']:.3f} to {found['p5_ms']:.3f} ms)"


def _check_xception_params() -> Fact:
    """The count of a published `pruned` net."""
    net = load("model", "mini_xception").build(input_shape=(1, 64, 64), classes=7)
    weights = sum(p.numel() for p in net.parameters())
    statistics = sum(b.numel() for b in net.buffers() if b.ndim)
    return Fact(
        claim="the 58,423 parameters of a published `pruned` mini_XCEPTION are those of the net as it is",
        source="Keras counts batch-norm statistics", holds=weights + statistics == 58_423,
        figure=f"{weights:,} weights + {statistics:,} statistics",
    )  # fmt: skip


def _is_negligible(factor: float) -> bool:
    return 1 / CLEAR_SPEEDUP < factor < CLEAR_SPEEDUP


def _agrees(found: float, published: float) -> bool:
    if _is_negligible(published):
        return _is_negligible(found)
    return (found > 1) == (published > 1) and 1 / MAX_RATIO <= found / published <= MAX_RATIO


def _describe_model(word: str, options: dict[str, Any]) -> str:
    return word + (f" ({', '.join(f'{k} {v}' for k, v in options.items())})" if options else "")


def _format_values(values: dict[str, float]) -> str:
    return ", ".join(f"{net} {value:.2f}" for net, value in values.items())
