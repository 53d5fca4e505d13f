"""Synaptic flow: what passes through all of a net's weights, taken without their signs.

Tanaka et al. 2020, https://arxiv.org/abs/2006.05467; as a score of whole nets Abdelfattah et al. 2021,
https://arxiv.org/abs/2101.08134. With R the sum of the outputs for an input of ones, the score is the sum over all
convolutions and linear layers of weight * dR/dweight. Told here is its natural logarithm, as the sum spans dozens of
orders of magnitude; batch norms are left at what they are in a fresh net, which is nothing.
"""

import math

import torch
from torch import Tensor, nn

from nas.evaluation.proxy import PREPROCESSING, Proxy, scratch_copy


class Synflow(Proxy):
    """The logarithm of the synaptic flow."""

    name = "synflow"

    def score(self, model: nn.Module, images: Tensor) -> float:
        """See the module; `images` only give the shape."""
        with scratch_copy(model, training=False) as twin:
            prepare = dict(twin.named_children()).get(PREPROCESSING)
            shape = images[:1] if prepare is None else prepare(images[:1])
            if prepare is not None:  # pixels would be centred, and so have signs
                twin.add_module(PREPROCESSING, nn.Identity())
            twin.double()
            for tensor in (*twin.parameters(), *twin.buffers()):
                if tensor.is_floating_point():
                    tensor.data.abs_()
            flow = twin(torch.ones_like(shape, dtype=torch.float64)).sum()
            layers = [m for m in twin.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
            weights = [layer.weight for layer in layers]
            slopes = torch.autograd.grad(flow, weights, allow_unused=True)
            found = sum(float((w.detach() * g).sum()) for w, g in zip(weights, slopes, strict=True) if g is not None)
        return math.log(found) if found > 0 else -math.inf


PROXY = Synflow()
"""Ready to use."""
