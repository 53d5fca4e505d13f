"""ResNet-10: four stages of one block, 16 to 128 channels (He et al. 2015, https://arxiv.org/abs/1512.03385).

The paper has no net of this depth: 308 thousand parameters for 1x48x48 and 7 classes, counted here. Different from the
paper's nets for ImageNet: a 3x3 stem without stride and pooling.
"""

from nas.models.base import PublishedSize, ZooModel
from nas.models.blocks.resnet import NOTES, SOURCE, resnet

MODEL = ZooModel(
    name="resnet10",
    make=resnet,
    source=SOURCE,
    notes=NOTES,
    published_params=(
        PublishedSize(params=308_000, input_shape=(1, 48, 48), classes=7, tolerance=0.005),
        PublishedSize(params=1_230_000, input_shape=(1, 48, 48), classes=7, options={"width": 32}, tolerance=0.005),
    ),
)
