"""MobileNetV2 (Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks", CVPR 2018) for small images.

https://arxiv.org/abs/1801.04381. Published: 3.4 million parameters for 1000 classes (3,504,872 in torchvision).
Different here: the stem and the second stage have stride 1, so that 48x48 ends at 6x6 instead of 2x2; the weights have
the same shapes.
"""

from torch import nn

from nas.models.base import PublishedSize, ZooModel, assemble_stages, make_divisible
from nas.models.blocks.bottleneck import conv_bn, inverted_residual
from search_spaces._ops import named_sequential

STAGE_TABLE = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 2),
    (6, 160, 3, 1),
    (6, 320, 1, 1),
)
"""Expansion, width, blocks and first stride of each stage."""


def mobilenet_v2(
    *,
    input_shape: tuple[int, int, int],
    classes: int,
    width: float = 1.0,
    stem_stride: int = 1,
    head_width: int | None = None,
) -> nn.Module:
    """A net with random weights.

    Args:
        input_shape: (C, H, W) of the images.
        classes: number of logits.
        width: multiplier of all channels but the head's; the products are rounded to multiples of 8.
        stem_stride: stride of the stem; 2 quarters the multiply-accumulates.
        head_width: channels of the last 1x1 convolution; None for 1280, times `width` if that is above 1.
    """
    channels = make_divisible(32 * width)
    stem = conv_bn(input_shape[0], channels, 3, stride=stem_stride, activation=nn.ReLU6)
    stages: list[nn.Module] = []
    for expansion, base, blocks, first in STAGE_TABLE:
        out, parts = make_divisible(base * width), {}
        for i in range(blocks):
            stride = first if i == 0 else 1
            parts[f"block{i}"] = inverted_residual(channels, out, expanded_width=channels * expansion, stride=stride)
            channels = out
        stages.append(named_sequential(**parts))
    last = make_divisible(1280 * max(1.0, width)) if head_width is None else head_width
    head = named_sequential(
        conv=conv_bn(channels, last, 1, activation=nn.ReLU6), pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(),
        dropout=nn.Dropout(0.2), linear=nn.Linear(last, classes),
    )  # fmt: skip
    return assemble_stages(input_shape, stem=stem, stages=stages, head=head)


MODEL = ZooModel(
    name="mobilenet_v2",
    make=mobilenet_v2,
    source="https://arxiv.org/abs/1801.04381",
    notes=(
        "Strides 1 (stem) and 1, 1, 2, 2, 2, 1, 1 (stages) for 48x48, where the paper has 2 and 1, 2, 2, 2, 1, 2, 1 "
        "for 224x224; the weights have the same shapes. The stem takes the channels of the images."
    ),
    published_params=(
        PublishedSize(params=3_504_872, input_shape=(3, 48, 48), classes=1000),
        PublishedSize(params=696_000, input_shape=(1, 48, 48), classes=7, options={"width": 0.5}, tolerance=0.005),
        PublishedSize(
            params=1_680_000, input_shape=(3, 48, 48), classes=1000, options={"width": 0.35}, tolerance=0.005
        ),
    ),
)
