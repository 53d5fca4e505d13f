"""Contract of a channel criterion: how important is each channel of each layer?"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nas.compression.base import CompressionContext

ChannelScores = dict[str, npt.NDArray[np.float64]]
"""Layer name to one score per channel [channels]; the higher ones are kept."""


class ChannelCriterion(ABC):
    """One criterion. Stateless; a member of nas/compression/importance ends with `IMPORTANCE`.

    Life: `check_available` is called before a search that may use the criterion. `score` and `score_inputs` are called
    once for each net that is pruned, on the trained net. The pruner divides each layer's scores by their mean, so that
    no layer outweighs the others, and sums them over all layers whose channels must be removed together.

    Promises:

    - The net is not changed.
    - The same net and context give the same scores.
    - Scores are finite and not negative, one per channel.
    - Layers without a score are left out; channels that no scored layer writes or reads are then ranked by `l1`.
    """

    name: str

    def check_available(self) -> None:  # noqa: B027  not abstract: most criteria need nothing but torch
        """Check, before a search starts, that the criterion can be computed on this machine; by default it can.

        Raises:
            MissingPackageError: the criterion needs an optional package that is not installed.
        """

    @abstractmethod
    def score(self, net: nn.Module, layers: Mapping[str, nn.Module], context: CompressionContext) -> ChannelScores:
        """Scores of the channels that each layer writes.

        Args:
            net: trained, from images to logits, in eval mode on the CPU.
            layers: its layers with channels, by name, in order of execution: convolutions, linear layers, norms, PReLU.
            context: with labelled training images, which a criterion may use.

        Returns:
            Layer name to scores [channels].

        Raises:
            BuildError: the criterion cannot be computed on this net or context; the message says what to do.
            MissingPackageError: the criterion needs an optional package that is not installed.
        """

    def score_inputs(
        self, net: nn.Module, layers: Mapping[str, nn.Module], context: CompressionContext
    ) -> ChannelScores:
        """Scores of the channels that each convolution or linear layer reads; arguments as in `score`.

        Returns:
            Layer name to scores [channels]; empty for most criteria.
        """
        return {}


def output_channel_weights(layer: nn.Module) -> Tensor | None:
    """The weights that write each channel, float64 [channels, numbers]; None for a layer without weights."""
    weight = getattr(layer, "weight", None)
    return None if weight is None else weight.detach().double().reshape(len(weight), -1)


def input_channel_weights(layer: nn.Module) -> Tensor | None:
    """The weights that read each channel, float64 [channels, numbers].

    None for grouped convolutions, where only a channel's own group reads it, and for layers of other types.
    """
    if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1):
        return layer.weight.detach().double().transpose(0, 1).flatten(1)
    return None


def has_filters(layer: nn.Module) -> bool:
    """Whether the layer's channels have weights that can be compared with each other."""
    return isinstance(layer, nn.Conv2d | nn.Linear)


def as_float64(scores: Tensor) -> npt.NDArray[np.float64]:
    """Scores [channels] as a float64 array."""
    return np.asarray(scores.detach().cpu().to(torch.float64).numpy(), dtype=np.float64)
