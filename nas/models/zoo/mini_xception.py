"""mini_XCEPTION (Arriaga et al. 2017, https://arxiv.org/abs/1710.07557), the net that many lightweight works prune.

Keras counts its batch-norm statistics too and gives 58,423; the weights that are trained are 56,951.
"""

from functools import partial

from nas.models.base import PublishedSize, ZooModel
from nas.models.blocks.xception import NOTES, SOURCE, xception

MODEL = ZooModel(
    name="mini_xception",
    make=partial(xception, stem=(8, 8), widths=(16, 32, 64, 128)),
    source=SOURCE,
    notes=NOTES,
    published_params=(PublishedSize(params=56_951, input_shape=(1, 64, 64), classes=7),),
)
