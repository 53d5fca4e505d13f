"""Plain CNN: a chain of 3x3 convolutions after VGG (Simonyan and Zisserman 2014, https://arxiv.org/abs/1409.1556).

No size is published for this small form: 1.17 million parameters for 1x48x48 and 7 classes, counted here. Different
from VGG: batch norm, four stages instead of five, and one linear layer instead of three.
"""

from torch import nn

from nas.models.base import PublishedSize, ZooModel, assemble_stages
from search_spaces._ends import make_head
from search_spaces._ops import conv_bn_act, named_sequential


def plain_cnn(
    *,
    input_shape: tuple[int, int, int],
    classes: int,
    widths: tuple[int, ...] = (32, 64, 128, 256),
    convs: tuple[int, ...] = (),
    stem_stride: int = 1,
    pool: bool = True,
) -> nn.Module:
    """A few convolutions and a halving for each width, then global pooling and one linear layer.

    Args:
        input_shape: (C, H, W) of the images.
        classes: number of logits.
        widths: channels of each stage.
        convs: convolutions of each stage, at least one; two in each by default. The stem is the first of all.
        stem_stride: stride of the stem; 2 quarters the multiply-accumulates.
        pool: end each stage with 2x2 max pooling, as VGG. Without, the first convolution of each stage but the first
            has stride 2 instead, as in "Striving for simplicity" (https://arxiv.org/abs/1412.6806): a quarter of its
            multiply-accumulates.

    Raises:
        ValueError: `convs` has not one positive number for each width.
    """
    convs = convs or (2,) * len(widths)
    if not convs or len(convs) != len(widths) or min(convs) < 1:
        raise ValueError(
            f"plain_cnn needs one positive number of convolutions for each of the {len(widths)} widths, but got "
            f"convs={convs}"
        )
    stages: list[nn.Module] = []
    channels = widths[0]
    for stage, (width, n_convs) in enumerate(zip(widths, convs, strict=True)):
        parts: dict[str, nn.Module] = {}
        for i in range(1 if stage == 0 else 0, n_convs):
            stride = 2 if i == 0 and not pool else 1
            parts[f"conv{i + 1}"] = conv_bn_act(channels, width, 3, stride=stride, activation="relu")
            channels = width
        if parts or pool:
            stages.append(named_sequential(**parts, pool=nn.MaxPool2d(2) if pool else None))
    stem = conv_bn_act(input_shape[0], widths[0], 3, stride=stem_stride, activation="relu")
    return assemble_stages(input_shape, stem=stem, stages=stages, head=make_head(widths[-1], classes))


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
        PublishedSize(
            params=268_951,
            input_shape=(1, 48, 48),
            classes=7,
            options={"widths": (16, 64, 96), "convs": (1, 2, 3), "stem_stride": 2, "pool": False},
        ),
    ),
)
