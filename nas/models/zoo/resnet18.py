"""ResNet-18: four stages of two blocks, by default 16 to 128 channels (He et al. 2015, https://arxiv.org/abs/1512.03385).

Published: 11,689,512 parameters for 1000 classes (torchvision's count). Different here: a 3x3 stem without stride and
pooling, and a quarter of the width: 701 thousand parameters for 1x48x48 and 7 classes.
"""

from functools import partial

from nas.models.base import PublishedSize, ZooModel
from nas.models.blocks.resnet import NOTES, SOURCE, resnet

STEM_SAVING = 64 * 3 * (7 * 7 - 3 * 3)
"""Weights by which a 3x3 stem is smaller than the 7x7 stem of the net for ImageNet."""

MODEL = ZooModel(
    name="resnet18",
    make=partial(resnet, blocks=2),
    source=SOURCE,
    notes=f"{NOTES} The paper's widths are those of `width=64`.",
    published_params=(
        PublishedSize(params=11_689_512 - STEM_SAVING, input_shape=(3, 48, 48), classes=1000, options={"width": 64}),
        PublishedSize(params=701_000, input_shape=(1, 48, 48), classes=7, tolerance=0.005),
    ),
)
