"""NASWOT: whether a fresh net's activations tell images apart.

Mellor et al. 2021, "Neural Architecture Search without Training", https://arxiv.org/abs/2006.04647 (v3). Each image
has a code: for every unit of every activation whether it is on. The score is log|det K| of the kernel K_ij = number of
units that images i and j agree on. Different here: any activation that is curved at 0 counts, not ReLU alone.
"""

import math

import torch
from torch import Tensor, nn

from nas.evaluation.proxy import Proxy, scratch_copy

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.GELU, nn.SiLU, nn.LeakyReLU, nn.ELU, nn.PReLU)


class Nwot(Proxy):
    """The logarithm of the determinant of the codes' kernel."""

    name = "nwot"

    def score(self, model: nn.Module, images: Tensor) -> float:
        """See the module; -inf where two images share a code in everything, or the net has no activation."""
        n = len(images)
        kernel = torch.zeros(n, n, dtype=torch.float64)

        def seen(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            on = (inputs[0].reshape(n, -1) > 0).double()
            kernel.add_(on @ on.T + (1 - on) @ (1 - on).T)

        with scratch_copy(model, training=True) as twin, torch.no_grad():
            for module in twin.modules():
                if isinstance(module, ACTIVATIONS):
                    module.register_forward_hook(seen)
            twin(images)
        sign, value = torch.linalg.slogdet(kernel)
        return float(value) if float(sign) != 0 and math.isfinite(float(value)) else -math.inf


PROXY = Nwot()
"""Ready to use."""
