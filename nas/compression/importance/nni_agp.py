"""NNI's AGPPruner: masks that grow in steps, with training between them (Zhu and Gupta 2017, arxiv.org/abs/1710.01878).

Needs the extra `nni`; it is imported at use.
"""

from collections.abc import Mapping

from torch import nn

from nas.compression.base import CompressionContext
from nas.compression.nni.adapter import require_nni
from nas.compression.nni.pruners import agp_scores
from nas.compression.pruning.criterion import ChannelCriterion, ChannelScores, has_filters


class NniAgp(ChannelCriterion):
    """Number of AGP's masks that a channel survives; ties are ranked by the L1 norm."""

    name = "nni_agp"

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
        return agp_scores(net, [name for name, layer in layers.items() if has_filters(layer)], context)


IMPORTANCE = NniAgp()
