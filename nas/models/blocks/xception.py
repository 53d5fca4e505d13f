"""mini_XCEPTION at any width (Arriaga et al. 2017, https://arxiv.org/abs/1710.07557)."""

from torch import nn

from nas.models.base import assemble_stages
from search_spaces._ops import Residual, conv, conv_bn_act, named_sequential

SOURCE = "https://arxiv.org/abs/1710.07557"
NOTES = (
    "Returns logits; the export adds the softmax. Max pooling pads one row on both sides, where Keras pads even maps "
    "at the right and bottom only. Images keep their size (64x64 in the paper)."
)


def xception(
    *, input_shape: tuple[int, int, int], classes: int, stem: tuple[int, int], widths: tuple[int, ...]
) -> nn.Module:
    """Two 3x3 convolutions without padding, then residual modules of two separable convolutions and a max pooling.

    Args:
        input_shape: (C, H, W) of the images.
        classes: number of logits.
        stem: channels of the first two convolutions.
        widths: channels of each module.
    """
    first = named_sequential(first=_conv_valid(input_shape[0], stem[0]), second=_conv_valid(stem[0], stem[1]))
    stages = [_separable_block(before, width) for before, width in zip((stem[1], *widths), widths, strict=False)]
    last = nn.Conv2d(widths[-1], classes, 3, padding=1)
    head = named_sequential(conv=last, pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten())
    return assemble_stages(input_shape, stem=first, stages=stages, head=head)


def _conv_valid(width_in: int, width: int) -> nn.Module:
    convolution = nn.Conv2d(width_in, width, 3, bias=False)
    return named_sequential(conv=convolution, bn=nn.BatchNorm2d(width), act=nn.ReLU())


def _separable_block(width_in: int, width: int) -> nn.Module:
    body = named_sequential(
        dw1=conv(width_in, width_in, 3, groups=width_in),
        pw1=conv_bn_act(width_in, width, 1, activation="relu"),
        dw2=conv(width, width, 3, groups=width),
        pw2=conv_bn_act(width, width, 1, activation=None),
        pool=nn.MaxPool2d(3, 2, padding=1),
    )
    return Residual(body, shortcut=conv_bn_act(width_in, width, 1, stride=2, activation=None))
