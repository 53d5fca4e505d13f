"""ResEmoteNet (Roy et al. 2024, https://arxiv.org/abs/2409.10545) at any width."""

from itertools import pairwise

from torch import nn

from nas.models.base import assemble_stages
from nas.models.blocks.gates import SqueezeExcite
from search_spaces._ops import Residual, named_sequential

SOURCE = "https://arxiv.org/abs/2409.10545"
STUDENT_SOURCE = "https://arxiv.org/abs/2501.18538"
"""Murtada et al. 2025, "Mini-ResEmoteNet: leveraging knowledge distillation for human-centered design"."""
NOTES = (
    "The stem takes the channels of the images, where the paper repeats grey images three times. Pixels are normalised "
    "by one mean and deviation instead of ImageNet's. The published accuracy is disputed: the authors' copy of "
    "FER2013 has the same images in the training and the test split."
)
WIDTHS = (64, 128, 256, 512, 1024, 2048)
"""Channels of the three convolutions and the three residual blocks."""
LINEAR_WIDTHS = (1024, 512, 256)
"""Features of the inner linear layers."""


def resemotenet(*, input_shape: tuple[int, int, int], classes: int, width: float = 1.0) -> nn.Module:
    """Three convolutions with poolings, squeeze-and-excitation, three residual blocks, four linear layers.

    Args:
        input_shape: (C, H, W) of the images.
        classes: number of logits.
        width: multiplier of all channels and of the inner linear layers.
    """
    widths = [int(w * width) for w in WIDTHS]
    stem = _conv_pool(input_shape[0], widths[0], dropout=0.2)
    stages = [
        _conv_pool(widths[0], widths[1], dropout=0.2),
        named_sequential(
            conv=_conv_pool(widths[1], widths[2], dropout=0.0),
            attention=SqueezeExcite(widths[2], widths[2] // 16, bias=False, gate_layer=nn.Sigmoid),
        ),
        *(_block(before, after) for before, after in pairwise(widths[2:])),
    ]
    return assemble_stages(input_shape, stem=stem, stages=stages, head=_head(widths[-1], classes, width))


def _conv_pool(width_in: int, width: int, *, dropout: float) -> nn.Module:
    return named_sequential(
        conv=nn.Conv2d(width_in, width, 3, padding=1), bn=nn.BatchNorm2d(width), act=nn.ReLU(), pool=nn.MaxPool2d(2),
        dropout=nn.Dropout(dropout) if dropout else None,
    )  # fmt: skip


def _block(width_in: int, width: int) -> nn.Module:
    body = named_sequential(
        conv1=nn.Conv2d(width_in, width, 3, 2, padding=1),
        bn1=nn.BatchNorm2d(width),
        act=nn.ReLU(),
        conv2=nn.Conv2d(width, width, 3, padding=1),
        bn2=nn.BatchNorm2d(width),
    )
    shortcut = named_sequential(conv=nn.Conv2d(width_in, width, 1, 2), bn=nn.BatchNorm2d(width))
    return Residual(body, shortcut=shortcut, activation="relu")


def _head(width_in: int, classes: int, width: float) -> nn.Module:
    layers: dict[str, nn.Module] = {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    for i, features in enumerate(int(f * width) for f in LINEAR_WIDTHS):
        layers |= {f"linear{i + 1}": nn.Linear(width_in, features), f"act{i + 1}": nn.ReLU()}
        layers[f"dropout{i + 1}"] = nn.Dropout(0.5)
        width_in = features
    return named_sequential(**layers, logits=nn.Linear(width_in, classes))
