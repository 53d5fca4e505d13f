"""ResNet-8: three stages of one block, 16 to 64 channels (https://arxiv.org/abs/1512.03385), 78 thousand parameters."""

from functools import partial

from nas.models.base import PublishedSize, ZooModel
from nas.models.blocks.resnet import NOTES, SOURCE, resnet

MODEL = ZooModel(
    name="resnet8",
    make=partial(resnet, stages=3),
    source=SOURCE,
    notes=NOTES,
    published_params=(PublishedSize(params=78_000, input_shape=(1, 48, 48), classes=7, tolerance=0.01),),
)
