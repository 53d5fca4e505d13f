"""NNI's TaylorPruner: first-order change of the loss (Molchanov et al. 2019, https://arxiv.org/abs/1906.10771).

Needs the extra `nni`; it is imported at use.
"""

from collections.abc import Mapping

from torch import nn

from nas.compression.base import CompressionContext
from nas.compression.nni.adapter import require_nni
from nas.compression.nni.pruners import taylor_scores
from nas.compression.pruning.criterion import ChannelCriterion, ChannelScores, has_filters


class NniTaylor(ChannelCriterion):
    """Sum over a channel's weights of the mean square of weight times gradient; `taylor` squares the sum instead."""

    name = "nni_taylor"

    def check_available(self) -> None:
        """Check that NNI is installed.

        Raises:
            MissingPackageError: it is not.
        """
        require_nni()

    def score(self, net: nn.Module, layers: Mapping[str, nn.Module], context: CompressionContext) -> ChannelScores:
        """Scores of convolutions and linear layers.

        Raises:
            BuildError: the context has no images.
            MissingPackageError: nni is not installed.
        """
        return taylor_scores(net, [name for name, layer in layers.items() if has_filters(layer)], context)


IMPORTANCE = NniTaylor()
