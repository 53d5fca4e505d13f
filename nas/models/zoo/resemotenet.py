"""ResEmoteNet (Roy et al. 2024, https://arxiv.org/abs/2409.10545), 80 million parameters: here as a teacher."""

from nas.models.base import PublishedSize, ZooModel
from nas.models.blocks.resemotenet import NOTES, SOURCE, resemotenet

MODEL = ZooModel(
    name="resemotenet",
    make=resemotenet,
    source=SOURCE,
    notes=NOTES,
    published_params=(PublishedSize(params=80_238_599, input_shape=(3, 64, 64), classes=7),),
)
