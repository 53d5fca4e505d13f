"""Synaptic flow: the product of absolute weights along each path through a network, summed over all paths.

Tanaka et al. 2020, https://arxiv.org/abs/2006.05467; as a score of whole nets Abdelfattah et al. 2021,
https://arxiv.org/abs/2101.08134. With R the sum of the outputs for an input of ones, the score is the sum over all
convolutions and linear layers of weight * dR/dweight, with all weights replaced by their absolute values. Different
here: the score is the natural logarithm, as the sum spans dozens of orders of magnitude. Batch norms stay as they are
in an untrained network, where they change nothing.
"""

import math

import torch
from torch import Tensor, nn

from nas.evaluation.proxy import PREPROCESSING, Proxy, scratch_copy


class Synflow(Proxy):
    """The logarithm of the synaptic flow."""

    name = "synflow"

    def score(self, model: nn.Module, images: Tensor) -> float:
        """See the module; -inf where nothing flows. Only the shape of `images` is used."""
        with scratch_copy(model, training=False) as scratch:
            prepare = dict(scratch.named_children()).get(PREPROCESSING)
            shape = images[:1] if prepare is None else prepare(images[:1])
            if prepare is not None:  # centring would give the ones a sign
                scratch.add_module(PREPROCESSING, nn.Identity())
            scratch.double()  # a product over layers soon leaves the range of float32
            for tensor in (*scratch.parameters(), *scratch.buffers()):
                if tensor.is_floating_point():
                    tensor.data.abs_()
            flow = scratch(torch.ones_like(shape, dtype=torch.float64)).sum()
            layers = [m for m in scratch.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
            weights = [layer.weight for layer in layers]
            gradients = torch.autograd.grad(flow, weights, allow_unused=True)
            saliency = sum(
                float((w.detach() * g).sum()) for w, g in zip(weights, gradients, strict=True) if g is not None
            )
        return math.log(saliency) if saliency > 0 else -math.inf


PROXY = Synflow()
"""Member of the family."""
