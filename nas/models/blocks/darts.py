"""Nets of published cells: normal cells, with reduction cells at one and two thirds of the depth.

Each cell takes the outputs of the two cells before it (Liu et al., "DARTS: differentiable architecture search", ICLR
2019, https://arxiv.org/abs/1806.09055).
"""

from collections import defaultdict

from torch import nn

from nas.models.base import image_preprocessing
from search_spaces._cells import Cell, CellNet, CellStage
from search_spaces._ends import make_head, make_stem
from search_spaces._genotype import Genotype, place_cells

STAGES = ("stage1", "stage2", "stage3")
STEM_MULTIPLIER = 3
"""The stem's width as a multiple of the cells' width, as in the papers' nets for CIFAR."""
NOTES = (
    "Each convolution is followed by batch norm and activation, where the paper activates first. A skip with stride 2 "
    "is one 1x1 convolution with stride 2, where the paper concatenates two of half the width: equally many weights, "
    "and one kernel instead of five. No auxiliary head and no drop path. The stem takes the channels of the images."
)


def cell_net(
    *,
    input_shape: tuple[int, int, int],
    classes: int,
    normal: Genotype,
    reduce: Genotype,
    cells: int,
    width: int,
    stem_stride: int = 2,
) -> nn.Module:
    """The net of a genotype.

    Args:
        input_shape: (C, H, W) of the images.
        classes: number of logits.
        normal: nodes of the normal cell, edges as [op, source].
        reduce: nodes of the reduction cell.
        cells: number of cells, the two reduction cells included.
        width: channels of a node before the first reduction cell; each reduction cell doubles it.
        stem_stride: 1 as in the papers; 2 quarters the multiply-accumulates.
    """
    genotypes = {"normal": normal, "reduce": reduce}
    maps = [STEM_MULTIPLIER * width]
    stages: dict[str, list[Cell]] = defaultdict(list)
    for place in place_cells(cells, genotypes=genotypes, stages=STAGES):
        genotype, nodes = genotypes[place.kind], width << STAGES.index(place.stage)
        reduces = place.kind == "reduce"
        cell = Cell(
            genotype, place.inputs, in_channels=tuple(maps), width=nodes, is_reduction=reduces, activation="relu"
        )
        stages[place.stage].append(cell)
        maps.append(len(genotype) * nodes)
    return CellNet(
        prepare=image_preprocessing(input_shape),
        stem=make_stem(input_shape[0], STEM_MULTIPLIER * width, stride=stem_stride, activation="relu"),
        stages={name: CellStage(members) for name, members in stages.items()},
        head=make_head(maps[-1], classes),
    )
