"""Plain CNN: a chain of 3x3 convolutions after VGG (Simonyan and Zisserman 2014, https://arxiv.org/abs/1409.1556).

No size is published for this small form: 1.17 million parameters for 1x48x48 and 7 classes, counted here. Different
from VGG: batch norm, four stages instead of five, and one linear layer instead of three.
"""

from itertools import pairwise

from torch import nn

from nas.models.base import PublishedSize, ZooModel, assemble_stages
from search_spaces._ends import make_head
from search_spaces._ops import conv_bn_act, named_sequential


def plain_cnn(
    *, input_shape: tuple[int, int, int], classes: int, widths: tuple[int, ...] = (32, 64, 128, 256)
) -> nn.Module:
    """For each width two convolutions and a 2x2 max pooling, then global pooling and one linear layer.

    Args:
        input_shape: (C, H, W) of the images.
        classes: number of logits.
        widths: channels of each stage; the first convolution is the stem.
    """
    stem = _conv(input_shape[0], widths[0])
    stages = [named_sequential(conv2=_conv(widths[0], widths[0]), pool=nn.MaxPool2d(2))]
    for before, width in pairwise(widths):
        stages.append(named_sequential(conv1=_conv(before, width), conv2=_conv(width, width), pool=nn.MaxPool2d(2)))
    return assemble_stages(input_shape, stem=stem, stages=[*stages], head=make_head(widths[-1], classes))


def _conv(width_in: int, width: int) -> nn.Module:
    return conv_bn_act(width_in, width, 3, activation="relu")


MODEL = ZooModel(
    name="plain_cnn",
    make=plain_cnn,
    source="https://arxiv.org/abs/1409.1556",
    notes=(
        "A small form of VGG with batch norm, four stages instead of five and one linear layer instead of three, as "
        "works on FER2013 use it. The stem takes the channels of the images."
    ),
    published_params=(
        PublishedSize(params=1_174_439, input_shape=(1, 48, 48), classes=7, tolerance=0.005),
        PublishedSize(
            params=295_000, input_shape=(1, 48, 48), classes=7, options={"widths": (16, 32, 64, 128)}, tolerance=0.01
        ),
    ),
)
