"""Mini-ResEmoteNet student A: ResEmoteNet with half the channels, to be taught by the whole net."""

from functools import partial

from nas.models.base import PublishedSize, ZooModel
from nas.models.blocks.resemotenet import NOTES, SOURCE, resemotenet

MODEL = ZooModel(
    name="resemotenet_a",
    make=partial(resemotenet, width=0.5),
    source=SOURCE,
    notes=f"{NOTES} The inner linear layers are scaled like the convolutions.",
    published_params=(PublishedSize(params=20_070_000, input_shape=(3, 64, 64), classes=7, tolerance=0.005),),
)
