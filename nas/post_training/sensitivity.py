"""Sensitivity of a net by layer: what pruning by half, and INT8, each cost in accuracy and gain in latency.

- Pruning: the layer loses the less important half of its output channels by L1, alone and without fine-tuning. Its
  latency is that of this file beside the whole net's.
- INT8: the accuracy is that with this layer alone in INT8. The latency is what the layer gains within an INT8 net, the
  difference between all layers in INT8 and all but this one: alone it would pay for borders that a real net does not
  have.

Accuracies are computed in torch, from the graph that a file is written from, on images of the selection split.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import fx, nn

from hw_profiles._base import INT8_BITS
from nas import registry
from nas.candidate import pruned_width
from nas.compression.pruning.slicing import slice_channels
from nas.latency.int8_speedup import Int8Speedup
from nas.latency.latency import Latency
from nas.onnx_export.folding import fold
from nas.onnx_export.parity import torch_probabilities
from nas.post_training.base import CALIBRATION_IMAGES, LogFunction
from nas.post_training.bits import BitsPlan
from nas.post_training.file_timer import FileTimer
from nas.post_training.mixed_precision import robust_speedup
from nas.post_training.user_net import UserNet

SPARSITY = 0.5
MAX_IMAGES = 2000
"""Images of the selection split that measure accuracy: two nets of 65 % that agree on 98 % of them differ by 0 within
0.6 points."""
FILES_AT_ONCE = 8
"""Files that are timed side by side, beside the one that they are compared with."""


@dataclass(frozen=True, kw_only=True)
class LayerSensitivity:
    """Sensitivity of one layer.

    Attributes:
        name: of the layer in the user's own code.
        channels: output channels before and after pruning; None where none can be removed, and for layers whose
            channels leave together with those of an earlier one.
        pruning_cost: accuracy lost by pruning, in percentage points; None likewise.
        pruning_gain: how much faster pruning makes the net; None likewise.
        int8_cost: accuracy lost by INT8, in percentage points; None where INT8 is not for this layer.
        int8_gain: how much faster INT8 in this layer makes the INT8 net; None likewise.
    """

    name: str
    channels: tuple[int, int] | None = None
    pruning_cost: float | None = None
    pruning_gain: Int8Speedup | None = None
    int8_cost: float | None = None
    int8_gain: Int8Speedup | None = None


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """Sensitivity of a net by layer.

    Attributes:
        model: name of the net.
        accuracy: of the whole net on the images, 0..1.
        n_images: images that measured the accuracies.
        split_name: where the images are from.
        latency: of the whole net.
        layers: in order of execution.
    """

    model: str
    accuracy: float
    n_images: int
    split_name: str
    latency: Latency
    layers: tuple[LayerSensitivity, ...]


@dataclass(frozen=True, kw_only=True)
class _PrunedNet:
    net: nn.Module
    channels: tuple[int, int]


@dataclass
class _Files:
    """Files of a net that are timed, in a folder; each is a draft."""

    model: UserNet
    folder: Path
    count: int = field(default=0)

    def write(self, plan: BitsPlan, net: nn.Module | None = None) -> Path:
        self.count += 1
        path = self.folder / f"{self.count}.onnx"
        self.model.write_net(net or self.model.net, self.model.candidate, path, plan, is_draft=True)
        return path


def measure_sensitivity(model: UserNet, *, timer: FileTimer, log: LogFunction = lambda _: None) -> Sensitivity:
    """Measure every layer of a net; its weights are not changed.

    Args:
        model: the net with trained weights.
        timer: times files for the model's target.
        log: called with a line about each step.

    Raises:
        CandidateError: the net cannot be exported or timed.
    """
    log("prune each layer alone")
    pruned, quantisable = _pruned_nets(model), _int8_layers(model)
    names = [name for name in model.layers if name in pruned or name in quantisable]
    accuracy = _accuracy(model, fold(model.net, input_shape=model.data.input_shape))
    pruning_costs: dict[str, float] = {}
    int8_costs: dict[str, float] = {}
    for i, name in enumerate(names, start=1):
        log(f"accuracy of layer {i} of {len(names)}: {model.layers[name]}")
        if name in pruned:
            net = fold(pruned[name].net, input_shape=model.data.input_shape)
            pruning_costs[name] = 100 * (accuracy - _accuracy(model, net))
        if name in quantisable:
            graph = model.graph(BitsPlan(units=_units(model, wide(model)), layers={name: INT8_BITS}))
            int8_costs[name] = 100 * (accuracy - _accuracy(model, graph))
    with tempfile.TemporaryDirectory(prefix="fer-nas-") as folder:
        files, all_wide = _Files(model, Path(folder)), BitsPlan(units=_units(model, wide(model)))
        whole = files.write(all_wide)
        slim = {name: files.write(all_wide, pruned[name].net) for name in pruned}
        timed = _time_beside(timer, model, whole, slim, log)
        pruning_gains = {name: robust_speedup(own, base) for name, (base, own) in timed.items()}
        latency = next(iter(timed.values()))[0] if timed else timer.time([whole], model.timed_shape)[0]
        int8_gains = _int8_gains(files, timer, sorted(quantisable), log)
    return Sensitivity(
        model=model.name, accuracy=accuracy, n_images=len(_rows(model)), latency=latency,
        split_name=f"val ({model.data.val_name}{', synthetic faces' if model.data.synthetic else ''})",
        layers=tuple(
            LayerSensitivity(
                name=model.layers[name], channels=pruned[name].channels if name in pruned else None,
                pruning_cost=pruning_costs.get(name), pruning_gain=pruning_gains.get(name),
                int8_cost=int8_costs.get(name), int8_gain=int8_gains.get(name),
            )
            for name in names
        ),
    )  # fmt: skip


def wide(model: UserNet) -> int:
    """Bit-width of what is not in INT8 on the model's target."""
    return max(model.bit_options)


def _units(model: UserNet, bits: int) -> dict[str, int]:
    return dict.fromkeys(model.units, bits)


def _pruned_nets(model: UserNet) -> dict[str, _PrunedNet]:
    """For each group of coupled channels that can shrink: the net with half of it, by its first layer."""
    shape, kept = model.data.input_shape, model.space.kept_layers
    groups: dict[str, int] = {}

    def remember(layer: str, width: int) -> int:
        groups[layer] = width
        return width

    slice_channels(model.net, input_channels=shape[0], keep=remember, kept=kept)
    pruner = registry.load("compressor", "prune_structured")
    context = model.builder.compression_context(model.candidate, CALIBRATION_IMAGES)
    nets: dict[str, _PrunedNet] = {}
    for layer, width in groups.items():
        n_kept = pruned_width(width, SPARSITY, model.profile.channel_multiple)
        if n_kept == width:
            continue  # on the target's grid nothing can be removed

        def keep(name: str, own: int, *, layer: str = layer, n_kept: int = n_kept) -> int:
            return n_kept if name == layer else own

        slim = slice_channels(model.net, input_channels=shape[0], keep=keep, kept=kept).eval()
        pruner.prune(model.net, slim, context)
        nets[layer] = _PrunedNet(net=slim, channels=(width, n_kept))
    return nets


def _int8_layers(model: UserNet) -> frozenset[str]:
    """Layers with weights that INT8 is for on the model's target."""
    if INT8_BITS not in model.bit_options:
        return frozenset()
    modules = dict(model.net.named_modules())
    kept = model.space.kept_layers
    return frozenset(
        name for name in model.layers if isinstance(modules.get(name), nn.Conv2d | nn.Linear) and name not in kept
    )


def _int8_gains(files: _Files, timer: FileTimer, names: Sequence[str], log: LogFunction) -> dict[str, Int8Speedup]:
    """How much faster each layer makes the INT8 net by being in INT8 itself."""
    if not names:
        return {}
    model = files.model
    units = _units(model, INT8_BITS)
    all_int8 = files.write(BitsPlan(units=units))
    others = {name: files.write(BitsPlan(units=units, layers={name: wide(model)})) for name in names}
    timed = _time_beside(timer, model, all_int8, others, log)
    return {name: robust_speedup(base, own) for name, (base, own) in timed.items()}


def _time_beside(
    timer: FileTimer, model: UserNet, base: Path, files: Mapping[str, Path], log: LogFunction
) -> dict[str, tuple[Latency, Latency]]:
    """For each file the latency of the base and its own, timed side by side in groups."""
    names, timed = list(files), dict[str, tuple[Latency, Latency]]()
    for i in range(0, len(names), FILES_AT_ONCE):
        group = names[i : i + FILES_AT_ONCE]
        log(f"time {i + 1} to {i + len(group)} of {len(names)} files")
        first, *others = timer.time_drafts([base, *(files[name] for name in group)], model.timed_shape)
        timed.update({name: (first, own) for name, own in zip(group, others, strict=True)})
    return timed


def _rows(model: UserNet) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.asarray(model.data.val.evenly_spread_rows(MAX_IMAGES))


def _accuracy(model: UserNet, graph: fx.GraphModule) -> float:
    """Accuracy of a graph in torch on the images, 0..1."""
    rows = _rows(model)
    outputs = torch_probabilities(graph, model.data.val.images[rows])
    return float((outputs.argmax(1) == model.data.val.labels[rows]).mean())
