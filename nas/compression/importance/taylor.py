"""First-order change of the loss without a channel as importance (Molchanov et al. 2017, arxiv.org/abs/1611.06440).

A gate of 1 on a channel, where a layer reads it, has the derivative sum(value * gradient) over the channel's pixels in
one image: what the loss of this image would lose with the channel, to first order. A channel's score is the mean of its
magnitude over images.

The magnitude is taken image by image. Over a batch the derivatives of images cancel, near a minimum of the loss all of
them, and what is left is noise. Gates are where a channel is read and not where it is written, because this is where
pruning silences it: behind norm, activation and depthwise layers. Norms use their running statistics: with those of the
batch an image's loss would depend on the other images.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas.compression.base import CompressionContext
from nas.compression.pruning.criterion import ChannelCriterion, ChannelScores, as_float64
from nas.errors import BuildError

BATCH_SIZE = 32
"""Images whose maps are in memory at a time; it changes no score."""


class Taylor(ChannelCriterion):
    """Mean over images of |sum of value * gradient| for each channel that a convolution or linear layer reads."""

    name = "taylor"

    def score(self, net: nn.Module, layers: Mapping[str, nn.Module], context: CompressionContext) -> ChannelScores:
        """No scores: channels are judged where they are read."""
        return {}

    def score_inputs(
        self, net: nn.Module, layers: Mapping[str, nn.Module], context: CompressionContext
    ) -> ChannelScores:
        """Scores of convolutions and linear layers, from the labelled images of the context.

        A layer that is called several times for an image gets the derivative of all calls together.

        Raises:
            BuildError: the context has no images.
        """
        if not len(context.images):
            raise BuildError("importance 'taylor' needs labelled training images, but got none; use 'l1'")
        probe = copy.deepcopy(net).eval().requires_grad_(False)
        readers = [name for name, layer in layers.items() if _reads_all_channels(layer)]
        images, labels = torch.from_numpy(context.images.copy()).float(), torch.from_numpy(context.labels.copy())
        total: dict[str, Tensor] = {}
        with _input_gates({name: probe.get_submodule(name) for name in readers}) as gates:
            for pixels, classes in zip(torch.split(images, BATCH_SIZE), torch.split(labels, BATCH_SIZE), strict=True):
                gates.clear()
                loss = functional.cross_entropy(probe(pixels), classes, reduction="sum")
                for name, slopes in gates.slopes(loss).items():
                    magnitudes = slopes.double().abs().sum(0) / len(images)
                    total[name] = total[name] + magnitudes if name in total else magnitudes
        return {name: as_float64(total[name]) for name in readers if name in total}


def _reads_all_channels(layer: nn.Module) -> bool:
    """Whether the layer reads channels of other layers; grouped convolutions read those that they write."""
    return isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)


class _InputGates:
    """Gates on what layers read. Layers that read one tensor share its gate: a channel leaves all of them at once."""

    def __init__(self) -> None:
        self._gates: dict[int, tuple[Tensor, Tensor]] = {}  # the tensor is kept, so that its id stays its own
        self._read_by: list[tuple[str, int]] = []

    def clear(self) -> None:
        """Forget the gates of the last batch."""
        self._gates, self._read_by = {}, []

    def multiply(self, name: str, layer: nn.Module, value: Tensor) -> Tensor:
        """What the layer reads, times a gate of ones for each image and channel."""
        key = id(value)
        if key not in self._gates:
            kept = (0, 1 if isinstance(layer, nn.Conv2d) else value.ndim - 1)
            shape = [size if axis in kept else 1 for axis, size in enumerate(value.shape)]
            self._gates[key] = value, torch.ones(shape, requires_grad=True)
        self._read_by.append((name, key))
        return value * self._gates[key][1]

    def slopes(self, loss: Tensor) -> dict[str, Tensor]:
        """The derivative of each image's loss along the gates that each layer reads [images, channels]."""
        gradients = torch.autograd.grad(loss, [gate for _, gate in self._gates.values()], allow_unused=True)
        by_key = {
            key: torch.zeros_like(gate) if gradient is None else gradient
            for (key, (_, gate)), gradient in zip(self._gates.items(), gradients, strict=True)
        }
        slopes: dict[str, Tensor] = {}
        for name, key in self._read_by:
            flat = by_key[key].flatten(1)
            slopes[name] = slopes[name] + flat if name in slopes else flat
        return slopes


@contextmanager
def _input_gates(layers: Mapping[str, nn.Module]) -> Iterator[_InputGates]:
    """Gates on what these layers read, in each pass through the net until the block ends."""
    gates = _InputGates()

    def hook_of(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
        return lambda layer, inputs: (gates.multiply(name, layer, inputs[0]), *inputs[1:])

    handles = [layer.register_forward_pre_hook(hook_of(name)) for name, layer in layers.items()]
    try:
        yield gates
    finally:
        for handle in handles:
            handle.remove()


IMPORTANCE = Taylor()
