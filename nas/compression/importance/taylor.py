"""First-order change of the loss without a channel as importance (Molchanov et al. 2019, arxiv.org/abs/1906.10771).

A gate of 1 behind each layer would have the gradient sum(weight * gradient) over the channel's weights and bias. A
channel's score is the square of it, averaged over batches of training images. No gates are built. Norms use their
running statistics: with batch statistics the loss would not depend on the size of the weights before a norm, and their
scores would be rounding errors.
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
    """Mean over batches of (sum of weight * gradient) ** 2, for all layers with weights."""

    name = "taylor"

    def score(self, net: nn.Module, layers: Mapping[str, nn.Module], context: CompressionContext) -> ChannelScores:
        """Scores from the labelled images of the context.

        Raises:
            BuildError: the context has no images.
        """
        if not len(context.images):
            raise BuildError("importance 'taylor' needs labelled training images, but got none; use 'l1'")
        probe = copy.deepcopy(net).eval().requires_grad_(True)
        weights = {name: _layer_tensors(probe.get_submodule(name)) for name in layers}
        weights = {name: tensors for name, tensors in weights.items() if tensors}
        images, labels = torch.from_numpy(context.images.copy()).float(), torch.from_numpy(context.labels.copy())
        total = {name: torch.zeros(len(tensors[0]), dtype=torch.float64) for name, tensors in weights.items()}
        flat = [tensor for tensors in weights.values() for tensor in tensors]
        for pixels, classes in zip(torch.split(images, BATCH_SIZE), torch.split(labels, BATCH_SIZE), strict=True):
            loss = functional.cross_entropy(probe(pixels), classes)
            gradients = dict(zip(map(id, flat), torch.autograd.grad(loss, flat, allow_unused=True), strict=True))
            for name, tensors in weights.items():
                gates = sum(_gate_gradient(tensor, gradients[id(tensor)]) for tensor in tensors)
                # The last batch may be smaller: weight each batch by its share of the images.
                total[name] += torch.as_tensor(gates) ** 2 / len(images) * len(pixels)
        return {name: as_float64(scores) for name, scores in total.items()}


def _layer_tensors(layer: nn.Module) -> list[Tensor]:
    return [tensor for key in ("weight", "bias") if (tensor := getattr(layer, key, None)) is not None]


def _gate_gradient(weight: Tensor, gradient: Tensor | None) -> Tensor:
    """Derivative of the loss with respect to each channel's gate [channels]."""
    products = torch.zeros_like(weight) if gradient is None else weight.detach() * gradient
    return products.double().reshape(len(weight), -1).sum(1)


IMPORTANCE = Taylor()
