"""ResNet-18: four stages of two blocks, by default 16 to 128 channels (https://arxiv.org/abs/1512.03385)."""

from functools import partial

from nas.models.base import PublishedSize, ZooModel
from nas.models.blocks.resnet import NOTES, SOURCE, resnet

STEM_SAVING = 64 * 3 * (7 * 7 - 3 * 3)
"""Weights that a 3x3 stem has less than the 7x7 stem of the net for ImageNet."""

MODEL = ZooModel(
    name="resnet18",
    make=partial(resnet, blocks=2),
    source=SOURCE,
    notes=f"{NOTES} `width=64` gives the paper's widths.",
    published_params=(
        PublishedSize(params=11_689_512 - STEM_SAVING, input_shape=(3, 48, 48), classes=1000, options={"width": 64}),
        PublishedSize(params=701_000, input_shape=(1, 48, 48), classes=7, tolerance=0.005),
    ),
)
