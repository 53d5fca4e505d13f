"""tiny_XCEPTION: mini_XCEPTION with half the channels, by the same authors (https://arxiv.org/abs/1710.07557).

It is in their code, not in the paper: 17,574 trained parameters for 1x64x64 and 7 classes. Different here: as for
`mini_xception`.
"""

from functools import partial

from nas.models.base import PublishedSize, ZooModel
from nas.models.blocks.xception import NOTES, SOURCE, xception

MODEL = ZooModel(
    name="tiny_xception",
    make=partial(xception, stem=(5, 5), widths=(8, 16, 32, 64)),
    source=SOURCE,
    notes=f"{NOTES} The net is in the published code, not in the paper.",
    published_params=(PublishedSize(params=17_574, input_shape=(1, 64, 64), classes=7),),
)
