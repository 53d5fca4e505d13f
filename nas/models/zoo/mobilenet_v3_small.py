"""MobileNetV3-small (Howard et al., "Searching for MobileNetV3", ICCV 2019) for small images.

https://arxiv.org/abs/1905.02244. Published: 2.5 million parameters for 1000 classes (2,542,856 in torchvision).
Different here: the stem and the second block have stride 1; the weights have the same shapes.
"""

from torch import nn

from nas.models.base import PublishedSize, ZooModel, assemble_stages, make_divisible
from nas.models.blocks.bottleneck import conv_bn, inverted_residual
from nas.models.blocks.gates import SqueezeExcite
from search_spaces._ops import named_sequential

STAGE_TABLE = (
    ((3, 16, 16, True, False, 2),),
    ((3, 72, 24, False, False, 1), (3, 88, 24, False, False, 1)),
    ((5, 96, 40, True, True, 2), (5, 240, 40, True, True, 1), (5, 240, 40, True, True, 1)),
    ((5, 120, 48, True, True, 1), (5, 144, 48, True, True, 1)),
    ((5, 288, 96, True, True, 2), (5, 576, 96, True, True, 1), (5, 576, 96, True, True, 1)),
)
"""Blocks by stage: kernel, expanded width, width, squeeze-and-excitation, hard-swish instead of ReLU, stride."""


def mobilenet_v3_small(
    *,
    input_shape: tuple[int, int, int],
    classes: int,
    stem_stride: int = 1,
    head_width: int = 1024,
    gates: bool = True,
    hard_swish: bool = True,
) -> nn.Module:
    """A net with random weights.

    Args:
        input_shape: (C, H, W) of the images.
        classes: number of logits.
        stem_stride: stride of the stem; 2 quarters the multiply-accumulates.
        head_width: features of the linear layer before the last.
        gates: False leaves out the paper's squeeze-and-excitation.
        hard_swish: False replaces the paper's hard-swish by ReLU.
    """
    swish = nn.Hardswish if hard_swish else nn.ReLU
    channels = 16
    stem = conv_bn(input_shape[0], channels, 3, stride=stem_stride, activation=swish)
    stages: list[nn.Module] = []
    for blocks in STAGE_TABLE:
        parts = {}
        for i, (kernel, inner, out, gated, swished, stride) in enumerate(blocks):
            gate = (
                SqueezeExcite(inner, make_divisible(inner / 4), bias=True, gate_layer=nn.Hardsigmoid)
                if gated and gates
                else None
            )
            activation = swish if swished else nn.ReLU
            parts[f"block{i}"] = inverted_residual(
                channels,
                out,
                expanded_width=inner,
                stride=stride,
                kernel=kernel,
                activation=activation,
                squeeze_excite=gate,
            )
            channels = out
        stages.append(named_sequential(**parts))
    head = named_sequential(
        conv=conv_bn(channels, 6 * channels, 1, activation=swish), pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(),
        hidden=nn.Linear(6 * channels, head_width), act=swish(), dropout=nn.Dropout(0.2),
        linear=nn.Linear(head_width, classes),
    )  # fmt: skip
    return assemble_stages(input_shape, stem=stem, stages=stages, head=head)


MODEL = ZooModel(
    name="mobilenet_v3_small",
    make=mobilenet_v3_small,
    source="https://arxiv.org/abs/1905.02244",
    notes=(
        "Strides 1 (stem) and 2, 1, 1, 2, 1, 1, 1, 1, 2, 1, 1 (blocks) for 48x48, where the paper has 2 in the stem "
        "and in the second block too; the weights have the same shapes. The stem takes the channels of the images."
    ),
    published_params=(
        PublishedSize(params=2_542_856, input_shape=(3, 48, 48), classes=1000),
        PublishedSize(
            params=1_063_000, input_shape=(3, 48, 48), classes=7, options={"gates": False, "hard_swish": False},
            tolerance=0.005,
        ),
    ),
)  # fmt: skip
