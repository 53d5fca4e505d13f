"""NNI's SlimPruner: scales of batch norms under an L1 penalty (Liu et al. 2017, https://arxiv.org/abs/1708.06519).

Needs the extra `nni`; it is imported at use.
"""

from collections.abc import Mapping

from torch import nn

from nas.compression.base import CompressionContext
from nas.compression.nni.adapter import require_nni
from nas.compression.nni.pruners import slim_factors
from nas.compression.pruning.criterion import ChannelCriterion, ChannelScores, as_float64


class NniSlim(ChannelCriterion):
    """|gamma| of a batch norm times NNI's factor after a short training of the factor; other layers have no score."""

    name = "nni_slim"

    def check_available(self) -> None:
        """Check that NNI is installed.

        Raises:
            MissingPackageError: it is not.
        """
        require_nni()

    def score(self, net: nn.Module, layers: Mapping[str, nn.Module], context: CompressionContext) -> ChannelScores:
        """Scores of batch norms that have scales.

        Raises:
            BuildError: the context has no images.
            MissingPackageError: nni is not installed.
        """
        scales = {
            name: layer.weight for name, layer in layers.items() if isinstance(layer, nn.BatchNorm2d) and layer.affine
        }
        factors = slim_factors(net, list(scales), context)
        return {name: factor * as_float64(scales[name].abs()) for name, factor in factors.items()}


IMPORTANCE = NniSlim()
