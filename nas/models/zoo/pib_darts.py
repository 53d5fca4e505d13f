"""PIB-DARTS: cells searched with PIBConv, a pseudo-inverted bottleneck, in place of separable convolutions.

https://arxiv.org/abs/2301.01286. Published: 3.02 million parameters for CIFAR-10 with 10 cells of width 36, and 1.3
million with 5 cells. Different here: 5 cells of width 16 and a stem with stride 2, 283 thousand parameters for 1x48x48
and 7 classes; see `NOTES` of `nas.models.blocks.darts`.

PIBConv has two grouped convolutions, the second with two input channels per group. It has few multiply-accumulates, but
ONNX Runtime has no fast kernel for it, so the net is an example of why latency is measured and not counted.
"""

from functools import partial

from nas.models.base import PublishedSize, ZooModel
from nas.models.blocks.darts import NOTES, cell_net
from search_spaces._genotype import Genotype

PIB3, PIB5, POOL, DILATED, SKIP = "pib_conv_3x3", "pib_conv_5x5", "avg_pool_3x3", "dil_conv_5x5", "skip"
NORMAL: Genotype = [
    [[PIB3, 0], [PIB5, 1]],
    [[PIB3, 0], [PIB3, 2]],
    [[PIB3, 2], [PIB3, 1]],
    [[PIB3, 1], [PIB3, 3]],
]
REDUCE: Genotype = [
    [[POOL, 0], [PIB5, 1]],
    [[POOL, 0], [DILATED, 2]],
    [[POOL, 0], [SKIP, 2]],
    [[PIB3, 3], [PIB3, 0]],
]

MODEL = ZooModel(
    name="pib_darts",
    make=partial(cell_net, normal=NORMAL, reduce=REDUCE, cells=5, width=16),
    source="https://arxiv.org/abs/2301.01286",
    notes=f"{NOTES} By default 5 cells of width 16 after a stem with stride 2, for 48x48.",
    published_params=(
        PublishedSize(
            params=3_020_000, input_shape=(3, 32, 32), classes=10, tolerance=0.02,
            options={"cells": 10, "width": 36, "stem_stride": 1},
        ),
        PublishedSize(
            params=1_300_000, input_shape=(3, 32, 32), classes=10, tolerance=0.02,
            options={"cells": 5, "width": 36, "stem_stride": 1},
        ),
        PublishedSize(params=283_000, input_shape=(1, 48, 48), classes=7, tolerance=0.02),
    ),
)  # fmt: skip
