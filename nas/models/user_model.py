"""User-defined model as a search space of one architecture: only its compression is searched.

`--model` names a published net (`nas.models.zoo`) or a Python factory `package.module:function`. A factory's net is
traced and split into units (`nas.models.user_model_units`). Stages can be built narrower: every group of coupled
channels of a stage keeps the same share.
"""

import copy
import logging
from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import nn

from nas.compression.pruning.channel_groups import trace_channel_groups
from nas.compression.pruning.pruning_check import check_pruning_is_exact
from nas.compression.pruning.slicing import channel_segments, slice_channels
from nas.config import SearchConfig
from nas.data.base import FaceData
from nas.errors import BuildError, CandidateError, ConfigError
from nas.models.layer_patterns import layer_names, match_layers
from nas.models.model_source import accepted_channels, make_model, run_error
from nas.models.preprocessing import PREPROCESSING, Preprocessing, pixel_scaling
from nas.models.seeding import forked_rng
from nas.models.user_model_units import is_split_into_stages, split_into_stages
from nas.models.weights import load_weights
from nas.onnx_export.rewrite_check import (
    MIXED_IMAGES_TOLERANCE,
    MIXED_IMAGES_WARNING,
    probe_images,
    relative_difference,
)
from search_spaces._base import HEAD, STEM, Architecture, Choice, SearchSpace, Value
from search_spaces._leaf import Normalise
from search_spaces._work import Layer, Workload, sum_workloads, trace_layers

logger = logging.getLogger(__name__)


class UserModelSpace(SearchSpace):
    """Search space of one net whose stages can be built narrower. `build` copies the net and never changes it.

    Built nets have the weights of the net; narrower ones have those of the first channels of each group.

    Args:
        name: name in candidates and tables.
        net: maps images [N, *input_shape] to logits; its children are `prepare`, `stem`, the stages and `head`.
        input_shape: (C, H, W) of the images.
        channel_multiple: grid of the channel counts.
        kept_layers: names of layers that no compressor may change.

    Raises:
        CandidateError: the net's channels cannot be traced, or its pruned form would compute something else; the
            message names the layer and the reason.
    """

    def __init__(
        self, name: str, net: nn.Module, *, input_shape: tuple[int, int, int], channel_multiple: int,
        kept_layers: frozenset[str] = frozenset(),
    ) -> None:  # fmt: skip
        check_pruning_is_exact(net, input_shape=input_shape, kept=kept_layers)
        self.kept_layers = kept_layers
        self.name, self._net = name, net
        self._input_shape, self._channel_multiple = input_shape, channel_multiple
        self.stages = tuple(unit for unit, _ in net.named_children() if unit not in (PREPROCESSING, STEM, HEAD))
        self._unit_by_layer = _unit_by_layer(net, input_channels=input_shape[0])
        groups: list[tuple[str, int]] = []

        def record(layer: str, width: int) -> int:
            groups.append((self._unit_by_layer.get(layer, STEM), width))
            return width

        slice_channels(net, input_channels=input_shape[0], keep=record, kept=kept_layers)
        # A stage without removable channels gets width 1, which no sparsity changes.
        self._widths = {s: max((w for unit, w in groups if unit == s), default=1) for s in self.stages}

    def choices(self, *, channel_multiple: int) -> tuple[Choice, ...]:
        """No genes: the architecture is fixed."""
        return ()

    def initial_configurations(self, *, channel_multiple: int) -> tuple[dict[str, Value], ...]:
        """The net itself, which is combined with the initial settings of the compressors."""
        return ({},)

    def decode(self, configuration: Mapping[str, Value]) -> Architecture:
        """The same architecture for every configuration."""
        return {"model": self.name}

    def widths(self, architecture: Architecture) -> dict[str, int]:
        """Width of the widest prunable group of channels of each stage."""
        return dict(self._widths)

    def build(
        self,
        architecture: Architecture,
        *,
        input_shape: tuple[int, int, int],
        classes: int,
        widths: Mapping[str, int] | None = None,
    ) -> nn.Module:
        """A copy of the net. Every group of a narrower stage keeps the stage's share, rounded to the target's grid."""
        stage_widths = {**self._widths, **(widths or {})}
        if stage_widths == self._widths:
            return copy.deepcopy(self._net)

        def keep(layer: str, width: int) -> int:
            unit = self._unit_by_layer.get(layer, STEM)
            if unit not in stage_widths or stage_widths[unit] == self._widths[unit]:
                return width
            steps = round(width * stage_widths[unit] / self._widths[unit] / self._channel_multiple)
            return min(width, max(1, steps) * self._channel_multiple)

        return slice_channels(self._net, input_channels=self._input_shape[0], keep=keep, kept=self.kept_layers)

    def workload(
        self,
        architecture: Architecture,
        *,
        input_shape: tuple[int, int, int],
        classes: int,
        widths: Mapping[str, int] | None = None,
    ) -> dict[str, Workload]:
        """Workload of each unit: every layer of the full net, scaled by the shares of its input and output channels.

        It is exact for the full net and an estimate for narrower ones, which leaves out coupled channels and the grid.
        """
        stage_widths = {**self._widths, **(widths or {})}
        workloads: dict[str, list[Workload]] = {}
        share = 1.0
        for layer in self._layers:
            unit, input_share = layer.name.partition(".")[0], share
            if layer.kernel_elements:  # layers without weights keep the number of channels
                width_unit = self._unit_by_layer.get(layer.name, unit)
                share = stage_widths[width_unit] / self._widths[width_unit] if width_unit in stage_widths else 1.0
            workloads.setdefault(unit, []).append(_scale_layer(layer, input_share, share).workload)
        return {unit: sum_workloads(layers) for unit, layers in workloads.items()}

    @cached_property
    def _layers(self) -> list[Layer]:
        return trace_layers(copy.deepcopy(self._net), self._input_shape)


def _scale_layer(layer: Layer, input_share: float, output_share: float) -> Layer:
    """The layer with shares of its input and output channels, at least one of each."""
    n_in, n_out = max(1, round(layer.in_channels * input_share)), max(1, round(layer.out_channels * output_share))
    groups = n_in if layer.groups == layer.in_channels else layer.groups  # a depthwise layer stays depthwise
    return layer._replace(in_channels=n_in, out_channels=n_out, groups=groups)


def _unit_by_layer(net: nn.Module, *, input_channels: int) -> dict[str, str]:
    """The unit whose width applies to each layer's output channels.

    Layers whose outputs are added have one group of channels. Its width is that of the last such layer's unit.
    """
    groups = trace_channel_groups(net, input_channels=input_channels)
    order = [layer.name for layer in groups.layers]
    units = {name: name.split(".")[0] for name in order}
    for signature in channel_segments(groups):
        names = sorted((name for name, _ in signature), key=order.index)
        units[names[0]] = names[-1].split(".")[0]
    return units


def load_user_model(config: SearchConfig, data: FaceData, *, channel_multiple: int) -> UserModelSpace:
    """The search space of the model that a configuration names, with the weights that it names.

    Args:
        config: the configuration; `model` must be set.
        data: the data set, whose images and classes the net is built for.
        channel_multiple: grid of the channel counts.

    Raises:
        UserError: there is no such model, its weights do not fit, or it cannot be compressed.
    """
    search, shape, classes = config.search, data.input_shape, len(data.classes)
    name = str(search.model)
    net_shape = (shape[0], search.input_size, search.input_size) if search.input_size else shape
    with forked_rng(config.run.seed):
        net = make_model(name, input_shape=net_shape, classes=classes)
    try:
        if search.weights is not None:
            load_weights(net, search.weights)
        net = with_preprocessing(
            net, input_shape=shape, classes=classes, input_size=search.input_size, mean=search.mean, std=search.std
        )
        kept = match_layers(search.keep or (), layer_names(net), option="--keep")
        return UserModelSpace(name, net, input_shape=shape, channel_multiple=channel_multiple, kept_layers=kept)
    except CandidateError as error:
        raise ConfigError(f"model {name} cannot be compressed: {error}") from None


def with_preprocessing(
    net: nn.Module,
    *,
    input_shape: tuple[int, int, int],
    classes: int,
    input_size: int | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
) -> nn.Module:
    """The net in units, with pre-processing from the data's images to the input that it expects.

    Args:
        net: a net, from `make_model`.
        input_shape: (C, H, W) of the images.
        classes: number of classes of the data.
        input_size: height and width of the images that reach the net; None for the data's.
        mean: subtracted from pixels, one number or one for each channel; None for the net's own, or 127.5.
        std: divisor of pixels, likewise; None for the net's own, or 64.

    Raises:
        ConfigError: mean and deviation do not fit the channels.
        CandidateError: the net cannot be traced or split into units.
    """
    channels, *size = input_shape
    resize = input_size if input_size and [input_size] * 2 != size else None
    if is_split_into_stages(net):
        if resize or mean is not None or std is not None:
            own = next((m for m in net.get_submodule(PREPROCESSING).modules() if isinstance(m, Normalise)), None)
            new_mean, new_std = pixel_scaling(mean, std, channels=channels)
            if own is not None:
                new_mean, new_std = own.mean if mean is None else new_mean, own.std if std is None else new_std
            net.add_module(PREPROCESSING, Preprocessing(size=resize, mean=new_mean, std=new_std, repeat=1))
        return net.eval()
    net_shape = (channels, resize, resize) if resize else input_shape
    taken = accepted_channels(net, net_shape)
    if taken is None and channels == 3 and run_error(net, (1, *net_shape[1:])) is None:
        raise BuildError(
            "a net must take the channels of the images, but it takes one channel and the images have 3; read them as "
            "grey images with --data-option channels=1, or build the net for 3 channels"
        )
    n_channels = taken or channels
    pixel_mean, pixel_std = pixel_scaling(mean, std, channels=n_channels)
    prepare = Preprocessing(size=resize, mean=pixel_mean, std=pixel_std, repeat=n_channels // channels)
    staged = split_into_stages(net, prepare, input_shape=input_shape, classes=classes)
    _warn_of_mixed_images(staged, input_shape)
    return staged


def _warn_of_mixed_images(net: nn.Module, input_shape: tuple[int, int, int]) -> None:
    """Say where the answer for an image depends on the others of its batch: then so does every accuracy."""
    images = probe_images(input_shape)
    with torch.inference_mode():
        together, alone = net(images)[:1], net(images[:1])
    if relative_difference(together, alone) > MIXED_IMAGES_TOLERANCE:
        logger.warning(MIXED_IMAGES_WARNING)
