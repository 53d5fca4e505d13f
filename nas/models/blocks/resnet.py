"""ResNets of basic blocks for small images (He et al. 2015, https://arxiv.org/abs/1512.03385)."""

from torch import nn

from nas.models.base import assemble_stages
from search_spaces._ends import make_head
from search_spaces._ops import Residual, conv_bn_act, make_shortcut, named_sequential

SOURCE = "https://arxiv.org/abs/1512.03385"
NOTES = (
    "The stem is a 3x3 convolution without stride and without pooling, as in the paper's nets for CIFAR. Shortcuts "
    "that change the shape are projections. The stem takes the channels of the images."
)


def resnet(
    *,
    input_shape: tuple[int, int, int],
    classes: int,
    width: int = 16,
    stages: int = 4,
    blocks: int = 1,
    stem_stride: int = 1,
    widths: tuple[int, ...] = (),
) -> nn.Module:
    """A net of depth 2 + 2 * stages * blocks.

    Args:
        input_shape: (C, H, W) of the images.
        classes: number of logits.
        width: channels of the stem and the first stage; each further stage doubles them.
        stages: number of stages; each but the first halves the maps.
        blocks: number of blocks in each stage; a block has two 3x3 convolutions.
        stem_stride: stride of the stem; 2 quarters the multiply-accumulates.
        widths: channels of each stage, in place of `width` and `stages`; the stem has those of the first.
    """
    widths = widths or tuple(width << stage for stage in range(stages))
    width = widths[0]
    stem = conv_bn_act(input_shape[0], width, 3, stride=stem_stride, activation="relu")
    body: list[nn.Module] = []
    channels = width
    for stage, out in enumerate(widths):
        parts = {}
        for i in range(blocks):
            parts[f"block{i}"] = _block(channels, out, stride=2 if stage and i == 0 else 1)
            channels = out
        body.append(named_sequential(**parts))
    return assemble_stages(input_shape, stem=stem, stages=body, head=make_head(channels, classes))


def _block(width_in: int, width: int, *, stride: int) -> nn.Module:
    body = named_sequential(
        first=conv_bn_act(width_in, width, 3, stride=stride, activation="relu"),
        second=conv_bn_act(width, width, 3, activation=None),
    )
    return Residual(body, shortcut=make_shortcut(width_in, width, stride), activation="relu")
