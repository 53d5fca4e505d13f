"""Mini-ResEmoteNet student A: ResEmoteNet with half the channels, a student of the full net.

Murtada et al. 2025, https://arxiv.org/abs/2501.18538. No size is published: 20.07 million parameters for 3x64x64 and 7
classes, counted here with the inner linear layers scaled too. Other differences are those of `resemotenet`.
"""

from functools import partial

from nas.models.base import PublishedSize, ZooModel
from nas.models.blocks.resemotenet import NOTES, STUDENT_SOURCE, resemotenet

MODEL = ZooModel(
    name="resemotenet_a",
    make=partial(resemotenet, width=0.5),
    source=STUDENT_SOURCE,
    notes=f"{NOTES} The inner linear layers are scaled like the convolutions.",
    published_params=(PublishedSize(params=20_070_000, input_shape=(3, 64, 64), classes=7, tolerance=0.005),),
)
