"""MobileNetV3-small (Howard et al. 2019, https://arxiv.org/abs/1905.02244) with strides for small faces."""

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
"""Stages of blocks: kernel, inner width, width, gates, hard-swish instead of ReLU, stride."""


def mobilenet_v3_small(
    *,
    input_shape: tuple[int, int, int],
    classes: int,
    stem_stride: int = 1,
    head_width: int = 1024,
    gates: bool = True,
    hard_swish: bool = True,
) -> nn.Module:
    """The net.

    Args:
        input_shape: (C, H, W) of the images.
        classes: how many logits.
        stem_stride: 2 quarters the multiply-accumulates.
        head_width: features of the linear layer before the last.
        gates: whether there is squeeze-and-excitation where the paper has it.
        hard_swish: whether there is hard-swish where the paper has it; else ReLU.
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
        "and in the second block too; the weights have the same shapes. Reads as many channels as the images have."
    ),
    published_params=(
        PublishedSize(params=2_542_856, input_shape=(3, 48, 48), classes=1000),
        PublishedSize(
            params=1_063_000, input_shape=(3, 48, 48), classes=7, options={"gates": False, "hard_swish": False},
            tolerance=0.005,
        ),
    ),
)  # fmt: skip
