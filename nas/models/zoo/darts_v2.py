"""DARTS V2: the cells of the second-order search (Liu et al., "DARTS: differentiable architecture search", ICLR 2019).

https://arxiv.org/abs/1806.09055. Published: 3.3 million parameters for CIFAR-10, with 20 cells of width 36 (3.35
million counted). Different here: 8 cells of width 16 and a stem with stride 2, 244 thousand parameters for 1x48x48 and
7 classes; activation after batch norm; see `NOTES` of `nas.models.blocks.darts`.
"""

from functools import partial

from nas.models.base import PublishedSize, ZooModel
from nas.models.blocks.darts import NOTES, cell_net
from search_spaces._genotype import Genotype

SEP, SKIP, POOL, DILATED = "sep_conv_3x3_twice", "skip", "max_pool_3x3", "dil_conv_3x3"
NORMAL: Genotype = [
    [[SEP, 0], [SEP, 1]],
    [[SEP, 0], [SEP, 1]],
    [[SEP, 1], [SKIP, 0]],
    [[SKIP, 0], [DILATED, 2]],
]
REDUCE: Genotype = [
    [[POOL, 0], [POOL, 1]],
    [[SKIP, 2], [POOL, 1]],
    [[POOL, 0], [SKIP, 2]],
    [[SKIP, 2], [POOL, 1]],
]

MODEL = ZooModel(
    name="darts_v2",
    make=partial(cell_net, normal=NORMAL, reduce=REDUCE, cells=8, width=16),
    source="https://arxiv.org/abs/1806.09055",
    notes=f"{NOTES} By default 8 cells of width 16 after a stem with stride 2, for 48x48; the paper has 20 of 36.",
    published_params=(
        PublishedSize(
            params=3_350_000, input_shape=(3, 32, 32), classes=10, tolerance=0.01,
            options={"cells": 20, "width": 36, "stem_stride": 1},
        ),
        PublishedSize(params=244_000, input_shape=(1, 48, 48), classes=7, tolerance=0.02),
        PublishedSize(
            params=36_000, input_shape=(1, 48, 48), classes=7, tolerance=0.02, options={"cells": 5, "width": 8}
        ),
    ),
)  # fmt: skip
