"""Mini-ResEmoteNet student C: ResEmoteNet with a eighth of the channels, to be taught by the whole net."""

from functools import partial

from nas.models.base import PublishedSize, ZooModel
from nas.models.blocks.resemotenet import NOTES, SOURCE, resemotenet

MODEL = ZooModel(
    name="resemotenet_c",
    make=partial(resemotenet, width=0.125),
    source=SOURCE,
    notes=f"{NOTES} The inner linear layers are scaled like the convolutions.",
    published_params=(PublishedSize(params=1_260_000, input_shape=(3, 64, 64), classes=7, tolerance=0.005),),
)
