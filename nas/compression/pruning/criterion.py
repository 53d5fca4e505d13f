"""What a criterion of channel pruning is: how much each channel of each layer matters."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nas.compression.base import CompressionContext

ChannelScores = dict[str, npt.NDArray[np.float64]]
"""Layer name to one number per channel [channels]; higher stays."""


class ChannelCriterion(ABC):
    """One criterion. Stateless; a member of nas/importance ends with `IMPORTANCE`.

    Whoever prunes divides each layer's scores by their mean, so that no layer outvotes the others, and adds them up
    over all layers whose channels must leave together.

    Promises: the net is not changed; the same net and context give the same scores; scores are finite and not negative,
    one per channel. Layers of which the criterion says nothing are left out; channels that no scored layer writes or
    reads are then ranked by `l1`.
    """

    name: str

    @abstractmethod
    def score(self, net: nn.Module, layers: Mapping[str, nn.Module], context: CompressionContext) -> ChannelScores:
        """How much each channel that a layer writes matters.

        Args:
            net: trained, from images to logits, in eval mode on the CPU.
            layers: its layers with channels, by name, in order of execution: convolutions, linear layers, norms, PReLU.
            context: whose labelled training images may be looked at.

        Raises:
            BuildError: the criterion cannot be computed on this net or context; what to do is said.
        """

    def score_inputs(
        self, net: nn.Module, layers: Mapping[str, nn.Module], context: CompressionContext
    ) -> ChannelScores:
        """How much each channel that a convolution or linear layer reads matters to it; most criteria do not ask."""
        return {}


def output_channel_weights(layer: nn.Module) -> Tensor | None:
    """The weights that write each channel, [channels, numbers] in double precision; None without weights."""
    weight = getattr(layer, "weight", None)
    return None if weight is None else weight.detach().double().reshape(len(weight), -1)


def input_channel_weights(layer: nn.Module) -> Tensor | None:
    """The weights that read each channel, [channels, numbers]; None where a channel is read by its own group only."""
    if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1):
        return layer.weight.detach().double().transpose(0, 1).flatten(1)
    return None


def has_filters(layer: nn.Module) -> bool:
    """Whether the layer's channels have weights that can be compared with each other."""
    return isinstance(layer, nn.Conv2d | nn.Linear)


def as_float64(scores: Tensor) -> npt.NDArray[np.float64]:
    """Scores [channels] as numpy's double."""
    return np.asarray(scores.detach().cpu().to(torch.float64).numpy(), dtype=np.float64)
