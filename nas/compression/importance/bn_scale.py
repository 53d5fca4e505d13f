"""Scale of the norm behind a channel as its importance (network slimming, Liu et al. 2017, arxiv.org/abs/1708.06519).

The paper trains with an L1 penalty on the scales so that many become zero. Here the net is trained as usual, and only
the ranking is the paper's.
"""

from collections.abc import Mapping

from torch import nn

from nas.compression.base import CompressionContext
from nas.compression.pruning.criterion import ChannelCriterion, ChannelScores, as_float64

NORM_LAYERS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm)


class BatchNormScale(ChannelCriterion):
    """|gamma| of each channel of each norm; other layers have no score."""

    name = "bn_scale"

    def score(self, net: nn.Module, layers: Mapping[str, nn.Module], context: CompressionContext) -> ChannelScores:
        """Scores of the norms that have scales."""
        scales = {name: layer.weight for name, layer in layers.items() if isinstance(layer, NORM_LAYERS)}
        return {name: as_float64(scale.abs()) for name, scale in scales.items() if scale is not None}


IMPORTANCE = BatchNormScale()
