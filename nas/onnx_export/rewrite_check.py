"""Proof that a rewritten net computes what the net does, on random weights and statistics as well as on its own.

Weights as they come hide faults: a residual branch whose last gain begins at 0 (as in many ResNets) adds nothing, and
fresh norms with mean 0 and variance 1 do nothing, so a wrong rewrite inside them changes no logit.
"""

import copy
from math import sqrt

import torch
from torch import Tensor, nn

from nas.errors import ExportError
from nas.onnx_export.tensor_caches import clear_caches

RELATIVE_TOLERANCE = 5e-4
"""Largest difference, relative to the largest logit: rounding of a deep net stays below it, a wrong axis does not."""
MIXED_IMAGES_TOLERANCE = 1e-3
"""Largest difference, relative to the largest output, of an image alone and in a batch; rounding stays below it."""
MIXED_IMAGES_WARNING = (
    "the model's answer for an image depends on the others of its batch, so its accuracy depends on the batch size; "
    "use norms with running statistics, and no means over axis 0"
)


def randomised(net: nn.Module, *, seed: int = 0) -> nn.Module:
    """A copy in eval mode in float32 with random weights, gains, biases and running statistics, all away from 0 and 1.

    Weights keep the variance of their input (He et al. 2015, https://arxiv.org/abs/1502.01852). Buffers other than the
    statistics of norms stay, because they may be indices or tables.
    """
    copied = copy.deepcopy(net).cpu().float().eval()
    clear_caches(copied)  # of the weights as they were
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in copied.modules():
            for name, parameter in module.named_parameters(recurse=False):
                parameter.copy_(_random_parameter(module, name, parameter, generator))
            for name, buffer in module.named_buffers(recurse=False):
                if name == "running_mean":
                    buffer.copy_(0.3 * torch.randn(buffer.shape, generator=generator))
                elif name == "running_var":
                    buffer.copy_(0.5 + 1.5 * torch.rand(buffer.shape, generator=generator))
    return copied


def _random_parameter(module: nn.Module, name: str, parameter: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(parameter.shape, generator=generator)
    if "bias" in name:
        return 0.2 * noise
    if parameter.ndim <= 1 and "weight" in name:  # the gain of a norm or the slope of a PReLU
        return 0.3 + 0.9 * torch.rand(parameter.shape, generator=generator)
    if parameter.ndim > 1 and "weight" in name:
        return noise * sqrt(2 / max(1, parameter[0].numel()))
    return 0.5 * noise  # a tensor outside a layer: a scale, a token, a table


def probe_images(input_shape: tuple[int, int, int], *, count: int = 3, seed: int = 0) -> Tensor:
    """Images [count, C, H, W] with pixels 0..255 of different brightness and contrast, so that logits differ."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn((count, *input_shape), generator=generator)
    level = torch.linspace(40.0, 200.0, count)[:, None, None, None]
    contrast = torch.linspace(20.0, 80.0, count).flip(0)[:, None, None, None]
    return (level + contrast * noise).clamp(0, 255).round()


def check_same_logits(expected: Tensor, got: Tensor, *, what: str) -> None:
    """Reject logits that differ by more than rounding.

    Args:
        expected: [N, K] of the net.
        got: [N, K] of its rewritten form.
        what: the rewritten form, for the message.

    Raises:
        ExportError: the shapes differ, or the largest difference exceeds `RELATIVE_TOLERANCE` of the largest logit.
    """
    if expected.shape != got.shape:
        raise ExportError(f"{what} must give logits {list(expected.shape)}, but gives {list(got.shape)}")
    difference = relative_difference(expected, got)
    if not difference <= RELATIVE_TOLERANCE:  # written this way round, NaN is rejected too
        raise ExportError(
            f"{what} must compute what the net does, but on random weights its logits differ by {difference:.2g} of "
            "the largest; remove random operations, or write the net with other layers"
        )


def relative_difference(expected: Tensor, got: Tensor) -> float:
    """The largest difference over the largest expected value (at least 1e-6)."""
    return float((expected - got).abs().max() / expected.abs().max().clamp(min=1e-6))
