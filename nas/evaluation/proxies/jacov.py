"""Jacobian covariance: how differently the outputs of an untrained network depend on different images.

Mellor et al. 2020, "Neural Architecture Search without Training", first version, https://arxiv.org/abs/2006.04647v1; in
the form of Abdelfattah et al. 2021, https://arxiv.org/abs/2101.08134. With v the eigenvalues of the correlation matrix
of the images' Jacobians (gradients of the summed outputs), the score is -sum(log(v + k) + 1 / (v + k)), k = 1e-5.
"""

import math

import torch
from torch import Tensor, nn

from nas.evaluation.proxy import Proxy, scratch_copy

EPSILON = 1e-5


class Jacov(Proxy):
    """Minus the sum over the eigenvalues. Without correlation between N images it is highest, about -N."""

    name = "jacov"

    def score(self, model: nn.Module, images: Tensor) -> float:
        """See the module; -inf where an image has a constant Jacobian, and so no correlation."""
        with scratch_copy(model, training=True) as scratch:
            inputs = images.clone().requires_grad_(True)
            (gradients,) = torch.autograd.grad(scratch(inputs).sum(), inputs)
        rows = gradients.reshape(len(images), -1).double()
        rows = rows - rows.mean(dim=1, keepdim=True)
        norms = rows.norm(dim=1, keepdim=True)
        if not bool((norms > 0).all()):
            return -math.inf
        # Rounding can give eigenvalues slightly below 0, which the logarithm could not take.
        values = torch.linalg.eigvalsh((rows / norms) @ (rows / norms).T).clamp_min(0.0)
        return float(-(torch.log(values + EPSILON) + 1 / (values + EPSILON)).sum())


PROXY = Jacov()
"""Member of the family."""
