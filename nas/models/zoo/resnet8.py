"""ResNet-8: three stages of one block, 16 to 64 channels (He et al. 2015, https://arxiv.org/abs/1512.03385).

The paper has no net of this depth: 78 thousand parameters for 1x48x48 and 7 classes, counted here. Different from the
paper's nets for CIFAR: projection shortcuts.
"""

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
