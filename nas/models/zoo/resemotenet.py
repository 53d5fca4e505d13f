"""ResEmoteNet (Roy et al. 2024, https://arxiv.org/abs/2409.10545), a teacher for distillation.

The published code has 80,238,599 parameters for 3x64x64 and 7 classes. Different here: the stem takes grey images
without repeating them, and pixels are normalised by one mean and deviation.
"""

from nas.models.base import PublishedSize, ZooModel
from nas.models.blocks.resemotenet import NOTES, SOURCE, resemotenet

MODEL = ZooModel(
    name="resemotenet",
    make=resemotenet,
    source=SOURCE,
    notes=NOTES,
    published_params=(PublishedSize(params=80_238_599, input_shape=(3, 64, 64), classes=7),),
)
