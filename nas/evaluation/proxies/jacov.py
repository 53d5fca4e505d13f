"""Jacobian covariance: whether a fresh net's outputs depend on each image in a way of its own.

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
    """Minus the sum over the eigenvalues: 0 correlation between images is best, -N."""

    name = "jacov"

    def score(self, model: nn.Module, images: Tensor) -> float:
        """See the module; -inf where an image has no influence on the outputs, or the same on each pixel."""
        with scratch_copy(model, training=True) as twin:
            asked = images.clone().requires_grad_(True)
            (slopes,) = torch.autograd.grad(twin(asked).sum(), asked)
        rows = slopes.reshape(len(images), -1).double()
        rows = rows - rows.mean(dim=1, keepdim=True)
        sizes = rows.norm(dim=1, keepdim=True)
        if not bool((sizes > 0).all()):
            return -math.inf
        values = torch.linalg.eigvalsh((rows / sizes) @ (rows / sizes).T).clamp_min(0.0)
        return float(-(torch.log(values + EPSILON) + 1 / (values + EPSILON)).sum())


PROXY = Jacov()
"""Ready to use."""
