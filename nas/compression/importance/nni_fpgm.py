"""NNI's FPGMPruner: distance to the geometric median (He et al. 2019, https://arxiv.org/abs/1811.00250).

Needs the extra `nni`; it is imported at use.
"""

from collections.abc import Mapping

from torch import nn

from nas.compression.base import CompressionContext
from nas.compression.nni.adapter import require_nni
from nas.compression.nni.pruners import norm_scores
from nas.compression.pruning.criterion import ChannelCriterion, ChannelScores, has_filters


class NniFpgm(ChannelCriterion):
    """Sum of the Euclidean distances of a channel's weights to those of the layer's other channels."""

    name = "nni_fpgm"

    def check_available(self) -> None:
        """Check that NNI is installed.

        Raises:
            MissingPackageError: it is not.
        """
        require_nni()

    def score(self, net: nn.Module, layers: Mapping[str, nn.Module], context: CompressionContext) -> ChannelScores:
        """Scores of convolutions and linear layers.

        Raises:
            MissingPackageError: nni is not installed.
        """
        return norm_scores(net, [name for name, layer in layers.items() if has_filters(layer)], pruner="FPGMPruner")


IMPORTANCE = NniFpgm()
