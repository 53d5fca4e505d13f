"""NNI's L2NormPruner: L2 norm of weights.

Needs the extra `nni`; it is imported at use.
"""

from collections.abc import Mapping

from torch import nn

from nas.compression.base import CompressionContext
from nas.compression.nni.adapter import require_nni
from nas.compression.nni.pruners import norm_scores
from nas.compression.pruning.criterion import ChannelCriterion, ChannelScores, has_filters


class NniL2(ChannelCriterion):
    """L2 norm of the weights that write a channel; unlike in `l2`, those that read it do not count."""

    name = "nni_l2"

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
        return norm_scores(net, [name for name, layer in layers.items() if has_filters(layer)], pruner="L2NormPruner")


IMPORTANCE = NniL2()
