"""How much the loss would change without a channel, to first order (Molchanov et al. 2019, arxiv.org/abs/1906.10771).

A gate of 1 behind each layer would have the gradient sum(weight * its gradient) over the channel's weights and bias;
the square of it, averaged over batches of training images, is the channel's score. No gates are built, and norms run on
their stored statistics: with a batch's own, the loss would not depend on the size of the weights before a norm at all,
and their scores would be rounding errors.
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas.compression.base import CompressionContext
from nas.compression.pruning.criterion import ChannelCriterion, ChannelScores, as_float64
from nas.errors import BuildError

BATCH_SIZE = 32


class Taylor(ChannelCriterion):
    """Mean over batches of (sum of weight * gradient) ** 2, of all layers with weights."""

    name = "taylor"

    def score(self, net: nn.Module, layers: Mapping[str, nn.Module], context: CompressionContext) -> ChannelScores:
        """Needs labelled images.

        Raises:
            BuildError: the context has no images.
        """
        if not len(context.images):
            raise BuildError("importance 'taylor' needs labelled training images, but got none; use 'l1'")
        probe = copy.deepcopy(net).eval().requires_grad_(True)
        weights = {name: _layer_tensors(probe.get_submodule(name)) for name in layers}
        weights = {name: found for name, found in weights.items() if found}
        images, labels = torch.from_numpy(context.images.copy()).float(), torch.from_numpy(context.labels.copy())
        total = {name: torch.zeros(len(found[0]), dtype=torch.float64) for name, found in weights.items()}
        flat = [tensor for found in weights.values() for tensor in found]
        for pixels, classes in zip(torch.split(images, BATCH_SIZE), torch.split(labels, BATCH_SIZE), strict=True):
            loss = functional.cross_entropy(probe(pixels), classes)
            slopes = dict(zip(map(id, flat), torch.autograd.grad(loss, flat, allow_unused=True), strict=True))
            for name, found in weights.items():
                gates = sum(_gate_gradient(tensor, slopes[id(tensor)]) for tensor in found)
                total[name] += torch.as_tensor(gates) ** 2 / len(images) * len(pixels)
        return {name: as_float64(scores) for name, scores in total.items()}


def _layer_tensors(layer: nn.Module) -> list[Tensor]:
    return [tensor for key in ("weight", "bias") if (tensor := getattr(layer, key, None)) is not None]


def _gate_gradient(weight: Tensor, gradient: Tensor | None) -> Tensor:
    """The slope of the loss along each channel's gate [channels]."""
    products = torch.zeros_like(weight) if gradient is None else weight.detach() * gradient
    return products.double().reshape(len(weight), -1).sum(1)


IMPORTANCE = Taylor()
