"""A net that someone already has, as a search space of one architecture: only its compression is searched.

`--model` names a published net (`nas.models.zoo`) or a Python factory `package.module:function`. A net from outside is traced,
its layers are put into units (`nas.models.stages`), and its stages can be built narrower: every group of coupled channels of a
stage keeps the same share.
"""

import copy
import inspect
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas import registry
from nas.compression.pruning.channel_groups import trace_channel_groups
from nas.compression.pruning.slicing import channel_segments, slice_channels
from nas.config import SearchConfig
from nas.data.base import FaceData
from nas.errors import CandidateError, ConfigError
from nas.models.seeding import forked_rng
from nas.models.stages import PREPROCESSING, Preprocessing, is_split_into_stages, split_into_stages
from search_spaces._base import HEAD, STEM, Architecture, Choice, SearchSpace, Value
from search_spaces._leaf import Normalise
from search_spaces._work import Layer, Workload, sum_workloads, trace_layers

DEFAULT_MEAN, DEFAULT_STD = 127.5, 64.0
"""Of pixels, as the nets of our search spaces normalise them."""


class UserModelSpace(SearchSpace):
    """One net, whose stages may be built narrower. The net it was made with is copied, never changed.

    `build` gives the net with the weights it came with: the narrow forms hold the first channels of each group.

    Args:
        name: what it is called in candidates and tables.
        net: with the children `prepare`, `stem`, stages and `head`, from images [N, *input_shape] to logits.
        input_shape: (C, H, W) of the images.
        channel_multiple: grid of the channel counts.

    Raises:
        CandidateError: the net's channels cannot be followed; the layer is named, with the reason.
    """

    def __init__(self, name: str, net: nn.Module, *, input_shape: tuple[int, int, int], channel_multiple: int) -> None:
        self.name, self._net = name, net
        self._input_shape, self._channel_multiple = input_shape, channel_multiple
        self.stages = tuple(unit for unit, _ in net.named_children() if unit not in (PREPROCESSING, STEM, HEAD))
        self._unit_by_layer = _unit_by_layer(net, input_channels=input_shape[0])
        groups: list[tuple[str, int]] = []

        def noted(layer: str, width: int) -> int:
            groups.append((self._unit_by_layer.get(layer, STEM), width))
            return width

        slice_channels(net, input_channels=input_shape[0], keep=noted)
        # A stage in which no channel can leave has a width that no sparsity changes.
        self._widths = {s: max((w for unit, w in groups if unit == s), default=1) for s in self.stages}

    def choices(self, *, channel_multiple: int) -> tuple[Choice, ...]:
        """None: the architecture stays."""
        return ()

    def initial_configurations(self, *, channel_multiple: int) -> tuple[dict[str, Value], ...]:
        """The net itself, so that it is tried first in each setting that the compressors want tried."""
        return ({},)

    def decode(self, configuration: Mapping[str, Value]) -> Architecture:
        """Always the same."""
        return {"model": self.name}

    def widths(self, architecture: Architecture) -> dict[str, int]:
        """The widest group of channels of each stage that may shrink."""
        return dict(self._widths)

    def build(
        self,
        architecture: Architecture,
        *,
        input_shape: tuple[int, int, int],
        classes: int,
        widths: Mapping[str, int] | None = None,
    ) -> nn.Module:
        """A copy of the net. With narrower widths every group of a stage keeps that share, on the target's grid."""
        kept = {**self._widths, **(widths or {})}
        if kept == self._widths:
            return copy.deepcopy(self._net)

        def keep(layer: str, width: int) -> int:
            unit = self._unit_by_layer.get(layer, STEM)
            if unit not in kept or kept[unit] == self._widths[unit]:
                return width
            steps = round(width * kept[unit] / self._widths[unit] / self._channel_multiple)
            return min(width, max(1, steps) * self._channel_multiple)

        return slice_channels(self._net, input_channels=self._input_shape[0], keep=keep)

    def workload(
        self,
        architecture: Architecture,
        *,
        input_shape: tuple[int, int, int],
        classes: int,
        widths: Mapping[str, int] | None = None,
    ) -> dict[str, Workload]:
        """That of the whole net, each layer scaled by the share of channels that its stage and the one before keep.

        Exact for the whole net, and an estimate for narrower ones: coupled channels and the grid are left aside.
        """
        kept = {**self._widths, **(widths or {})}
        found: dict[str, list[Workload]] = {}
        share = 1.0
        for layer in self._layers:
            unit, before = layer.name.partition(".")[0], share
            if layer.kernel_elements:
                decides = self._unit_by_layer.get(layer.name, unit)
                share = kept[decides] / self._widths[decides] if decides in kept else 1.0
            found.setdefault(unit, []).append(_scale_layer(layer, before, share).workload)
        return {unit: sum_workloads(works) for unit, works in found.items()}

    @cached_property
    def _layers(self) -> list[Layer]:
        return trace_layers(copy.deepcopy(self._net), self._input_shape)


def _scale_layer(layer: Layer, input_share: float, output_share: float) -> Layer:
    """The layer with a share of its channels in and out."""
    reads, writes = max(1, round(layer.in_channels * input_share)), max(1, round(layer.out_channels * output_share))
    groups = reads if layer.groups == layer.in_channels else layer.groups
    return layer._replace(in_channels=reads, out_channels=writes, groups=groups)


def _unit_by_layer(net: nn.Module, *, input_channels: int) -> dict[str, str]:
    """Each layer that writes a group to the unit that decides over it: that of the last layer which writes it too."""
    coupling = trace_channel_groups(net, input_channels=input_channels)
    order = [layer.name for layer in coupling.layers]
    found = {name: name.split(".")[0] for name in order}
    for signature in channel_segments(coupling):
        names = sorted((name for name, _ in signature), key=order.index)
        found[names[0]] = names[-1].split(".")[0]
    return found


def load_user_model(config: SearchConfig, data: FaceData, *, channel_multiple: int) -> UserModelSpace:
    """The net that a configuration names, with its given weights if there are any, for this data.

    Raises:
        UserError: there is no such model, its weights do not fit, or it cannot be compressed; in one line.
    """
    word, shape = str(config.search.model), data.input_shape
    with forked_rng(config.run.seed):
        net = _make_model(word, shape, len(data.classes), config)
    try:
        if config.search.weights is not None:
            load_weights(net, config.search.weights)
        net = _with_preprocessing(net, config, data)
        return UserModelSpace(word, net, input_shape=shape, channel_multiple=channel_multiple)
    except CandidateError as error:
        raise ConfigError(f"model {word} cannot be compressed: {error}") from None


def _make_model(spec: str, image_shape: tuple[int, int, int], classes: int, config: SearchConfig) -> nn.Module:
    """The net with its own weights, as its factory or the zoo makes it."""
    channels, height, width = image_shape
    size = (config.search.input_size, config.search.input_size) if config.search.input_size else (height, width)
    wanted: dict[str, Any] = {"input_shape": (channels, *size), "classes": classes, "num_classes": classes}
    if ":" not in spec:
        net: nn.Module = registry.load("model", spec).build(input_shape=wanted["input_shape"], classes=classes)
        return net.eval()
    make = registry.factory(spec)
    try:
        made = make(**_accepted_arguments(make, wanted))
    except Exception as error:  # it is someone else's code
        raise ConfigError(f"factory {spec} must build a net, but raised {type(error).__name__}: {error}") from error
    if not isinstance(made, nn.Module):
        raise ConfigError(f"factory {spec} must return a torch.nn.Module, but returned {type(made).__name__}")
    return made.cpu().float().eval()


def _accepted_arguments(factory: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the arguments that a factory names."""
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return {}
    return {name: value for name, value in arguments.items() if name in parameters}


def _with_preprocessing(net: nn.Module, config: SearchConfig, data: FaceData) -> nn.Module:
    """The net in units, behind what makes of the data's images what it wants."""
    channels, *size = data.input_shape
    resize = config.search.input_size if config.search.input_size and [config.search.input_size] * 2 != size else None
    mean, std = (
        config.search.mean if config.search.mean is not None else DEFAULT_MEAN,
        config.search.std if config.search.std is not None else DEFAULT_STD,
    )
    if is_split_into_stages(net):
        if resize or config.search.mean is not None or config.search.std is not None:
            own = next((m for m in net.get_submodule(PREPROCESSING).modules() if isinstance(m, Normalise)), None)
            if own is not None:
                mean = config.search.mean if config.search.mean is not None else own.mean
                std = config.search.std if config.search.std is not None else own.std
            net.add_module(PREPROCESSING, Preprocessing(size=resize, mean=mean, std=std, repeat=1))
        return net.eval()
    first = next((m for m in net.modules() if isinstance(m, nn.Conv2d)), None)
    repeat = 3 if first is not None and channels == 1 and first.in_channels == 3 else 1
    prepare = Preprocessing(size=resize, mean=mean, std=std, repeat=repeat)
    return split_into_stages(net, prepare, input_shape=data.input_shape, classes=len(data.classes))


def load_weights(net: nn.Module, path: Path) -> None:
    """Fill a net from a state dict, itself or under the key `state_dict`; nothing but tensors is unpickled.

    Raises:
        ConfigError: there is no such file, it holds more than tensors, or its tensors are not the net's.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ConfigError(f"weights must be a state dict, but {path} cannot be read: {error.strerror}") from None
    except Exception as error:  # pickle and zip errors share no base
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"weights must be a state dict that torch.load(weights_only=True) reads, but {path} is not: {reason}; "
            "save it with torch.save(net.state_dict(), path)"
        ) from None
    state = found.get("state_dict", found) if isinstance(found, dict) else None
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise ConfigError(f"weights must be a state dict, but {path} holds a {type(found).__name__} of something else")
    state = {str(name).removeprefix("module."): tensor for name, tensor in state.items()}  # from nn.DataParallel
    own = net.state_dict()
    for name in sorted(set(own) ^ set(state)):
        where = "the net only" if name in own else "the file only"
        raise ConfigError(f"weights must be those of the net, but {name!r} is in {where} ({path})")
    for name, tensor in state.items():
        if own[name].shape != tensor.shape:
            shapes = f"{list(own[name].shape)} in the net and {list(tensor.shape)} in {path}"
            raise ConfigError(f"weights must be those of the net, but {name!r} is {shapes}")
    net.load_state_dict(state)
