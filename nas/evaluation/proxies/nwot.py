"""NASWOT: how well the activations of an untrained network tell images apart.

Mellor et al. 2021, "Neural Architecture Search without Training", https://arxiv.org/abs/2006.04647 (v3). Each image
has a binary code: the sign of the input of every unit of every activation. The score is log|det K| of the kernel K_ij =
number of units in which the codes of images i and j agree. Different here: every activation that bends at 0 counts, not
ReLU alone.
"""

import math

import torch
from torch import Tensor, nn

from nas.evaluation.proxy import Proxy, scratch_copy

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.GELU, nn.SiLU, nn.LeakyReLU, nn.ELU, nn.PReLU)


class Nwot(Proxy):
    """The logarithm of the absolute determinant of the kernel of the codes."""

    name = "nwot"

    def score(self, model: nn.Module, images: Tensor) -> float:
        """See the module; -inf where two images have the same code, or the network has no such activation."""
        n = len(images)
        kernel = torch.zeros(n, n, dtype=torch.float64)

        def add_agreement(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            code = (inputs[0].reshape(n, -1) > 0).double()
            kernel.add_(code @ code.T + (1 - code) @ (1 - code).T)

        with scratch_copy(model, training=True) as scratch, torch.no_grad():
            for module in scratch.modules():
                if isinstance(module, ACTIVATIONS):
                    module.register_forward_hook(add_agreement)
            scratch(images)
        sign, log_determinant = torch.linalg.slogdet(kernel)
        return float(log_determinant) if float(sign) != 0 and math.isfinite(float(log_determinant)) else -math.inf


PROXY = Nwot()
"""Member of the family."""
