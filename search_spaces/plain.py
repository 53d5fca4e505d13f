"""Plain space: chains of dense or residual 3x3 convolutions.

Dense after VGG (https://arxiv.org/abs/1409.1556), residual after ResNet (https://arxiv.org/abs/1512.03385).

At 48x48 and batch 1 latency is nearly proportional to the number of kernels, and dense 3x3 convolutions have the
highest arithmetic rate, so such chains often have a better accuracy per millisecond than cells. Different here:
attention, if any, is at the end of the last stage alone, and the first residual block of a stage always has a 1x1
convolution as its shortcut.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from search_spaces._attention import attention_workload, make_attention
from search_spaces._base import Architecture, Choice, SearchSpace, Value
from search_spaces._ends import (
    SHARED_CHOICES,
    head_workload,
    input_workload,
    make_head,
    make_preprocessing,
    make_stem,
    round_to_multiple,
)
from search_spaces._ops import Residual, conv_bn_act, named_sequential
from search_spaces._work import (
    Workload,
    activation_workload,
    fused_workload,
    layer_workload,
    memory_bound_workload,
    sum_workloads,
)

DEPTHS = {"stage1": (1, 2, 3), "stage2": (1, 2, 3), "stage3": (1, 2, 3), "stage4": (0, 1, 2)}
WIDTHS = (8, 16, 24, 32, 48, 64, 96, 128)
LATE_WIDTHS = (*WIDTHS, 192, 256)
"""Of the third and the fourth stage, whose maps are small enough for them."""
INITIAL_CHAINS = (
    (2, 8, (16, 32, 64, 128), "dddd", 1),
    (2, 16, (16, 32, 64, 128), "rrrr", 1),
    (2, 16, (32, 48, 96, 128), "drrr", 1),
    (1, 16, (32, 64, 96, 128), "drrd", 1),
)
"""Stem stride, stem width, widths of the stages, their blocks, (d)ense or (r)esidual, and blocks in each stage."""
LARGE_CHAINS = (
    (2, 32, (32, 64, 128, 128), "rrrr", 1),
    (2, 32, (32, 64, 128, 256), "rrrr", 2),
)
"""Chains that use a latency budget of milliseconds: of 0.6 and 2.8 million weights, the latter a ResNet-18 of a quarter
of the width, which is what published networks of 68 % and more on FER2013 look like."""
STAGE_GENES = ("depth", "width", "block", "down")


class PlainNet(nn.Module):
    """Images [N, C, H, W] to logits [N, classes]."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        self.parts = tuple(parts)
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, image: Tensor) -> Tensor:
        """Shape [N, classes]; `image` holds raw pixel values."""
        for name in self.parts:
            image = self.get_submodule(name)(image)
        return image


class PlainSpace(SearchSpace):
    """Three or four stages of equal blocks; a stage may begin by halving the map.

    A dense block is one convolution, a residual block two. A stage that changes neither the size of the map, nor the
    width, nor the block continues the stage before: its depth is added there, and it is not in use itself.
    """

    name = "plain"
    stages = tuple(DEPTHS)

    def choices(self, *, channel_multiple: int) -> tuple[Choice, ...]:
        """The stem's width, four genes for each stage, and the macro genes that all spaces share."""
        stem_widths = round_to_multiple((8, 16, 24, 32), channel_multiple)
        genes = [Choice(name="stem_width", options=stem_widths), *SHARED_CHOICES]
        for stage, depths in DEPTHS.items():
            widths = LATE_WIDTHS if stage in ("stage3", "stage4") else WIDTHS
            genes += [
                Choice(name=f"{stage}.depth", options=depths),
                Choice(name=f"{stage}.width", options=round_to_multiple(widths, channel_multiple)),
                Choice(name=f"{stage}.block", options=("dense", "residual")),
                Choice(name=f"{stage}.down", options=("none", "stride", "max_pool")),
            ]
        return tuple(genes)

    def initial_configurations(self, *, channel_multiple: int) -> tuple[dict[str, Value], ...]:
        """Narrow to wide chains that halve the map at every stage, as far as the options contain them."""
        return self._configurations(INITIAL_CHAINS, channel_multiple)

    def large_configurations(self, *, channel_multiple: int) -> tuple[dict[str, Value], ...]:
        """Residual chains of 0.6 and 2.8 million weights."""
        return self._configurations(LARGE_CHAINS, channel_multiple)

    def _configurations(
        self, chains: Sequence[tuple[int, int, tuple[int, ...], str, int]], channel_multiple: int
    ) -> tuple[dict[str, Value], ...]:
        options = {choice.name: choice.options for choice in self.choices(channel_multiple=channel_multiple)}
        seeds = [_initial_configuration(*shape) for shape in chains]
        return tuple(seed for seed in seeds if all(value in options[gene] for gene, value in seed.items()))

    def decode(self, configuration: Mapping[str, Value]) -> Architecture:
        """Stages in use only, each with all its genes. No configuration is disconnected."""
        body: list[dict[str, Value]] = []
        for stage in self.stages:
            genes = {gene: configuration[f"{stage}.{gene}"] for gene in STAGE_GENES}
            if genes["depth"] == 0:
                continue
            if body and genes["down"] == "none" and all(genes[g] == body[-1][g] for g in ("width", "block")):
                body[-1]["depth"] = int(body[-1]["depth"]) + int(genes["depth"])
            else:
                body.append({"stage": stage, **genes})
        shared = {choice.name: configuration[choice.name] for choice in SHARED_CHOICES}
        return {"stem_width": configuration["stem_width"], **shared, "body": body}

    def widths(self, architecture: Architecture) -> dict[str, int]:
        """Output channels of each stage in use."""
        return {stage["stage"]: stage["width"] for stage in architecture["body"]}

    def build(
        self,
        architecture: Architecture,
        *,
        input_shape: tuple[int, int, int],
        classes: int,
        widths: Mapping[str, int] | None = None,
    ) -> nn.Module:
        """The network; `widths` overrides those of the stages, and the stem keeps its own."""
        channels, *size = input_shape
        stage_widths = {**self.widths(architecture), **(widths or {})}
        activation, width_in = architecture["activation"], architecture["stem_width"]
        parts: dict[str, nn.Module] = {
            "prepare": make_preprocessing(size=(size[0], size[1]), input_size=architecture["input_size"]),
            "stem": make_stem(channels, width_in, stride=architecture["stem_stride"], activation=activation),
        }
        for stage in architecture["body"]:
            width = stage_widths[stage["stage"]]
            is_last = stage is architecture["body"][-1]
            attention = make_attention(architecture["attention"], width) if is_last else None
            blocks = _blocks(stage, width_in=width_in, width=width, activation=activation)
            parts[stage["stage"]] = named_sequential(**blocks, attention=attention)
            width_in = width
        return PlainNet(**parts, head=make_head(width_in, classes))

    def workload(
        self,
        architecture: Architecture,
        *,
        input_shape: tuple[int, int, int],
        classes: int,
        widths: Mapping[str, int] | None = None,
    ) -> dict[str, Workload]:
        """Counted block by block, without building the network."""
        stage_widths = {**self.widths(architecture), **(widths or {})}
        body, width_in = architecture["body"], architecture["stem_width"]
        activation = architecture["activation"]
        workloads, size = input_workload(
            input_shape, input_size=architecture["input_size"], stem_width=width_in,
            stem_stride=architecture["stem_stride"], activation=activation,
        )  # fmt: skip
        for stage in body:
            width, works = stage_widths[stage["stage"]], []
            if stage["down"] == "max_pool":
                before, size = size, size // 2
                works.append(memory_bound_workload(width_in, width_in, before**2, size**2))
            for i in range(stage["depth"]):
                before, size = size, -(-size // 2) if i == 0 and stage["down"] == "stride" else size
                maps = (width if i else width_in, width, before**2, size**2)
                works += _block_workload(stage["block"], *maps, activation, has_projection=i == 0)
            if stage is body[-1]:
                works.append(attention_workload(architecture["attention"], width, size**2))
            workloads[stage["stage"]] = sum_workloads(works)
            width_in = width
        return workloads | {"head": head_workload(width_in, size**2, classes)}

    operations = ("dense", "residual")

    def count_operations(self, architecture: Architecture) -> tuple[int, ...]:
        """Number of blocks of each kind."""
        return tuple(sum(s["depth"] for s in architecture["body"] if s["block"] == kind) for kind in self.operations)


def _initial_configuration(
    stem_stride: int, stem: int, widths: tuple[int, ...], blocks: str, depth: int
) -> dict[str, Value]:
    configuration: dict[str, Value] = {"stem_stride": stem_stride, "stem_width": stem, "input_size": 48}
    configuration |= {"activation": "relu", "attention": "none"}
    for stage, width, block in zip(DEPTHS, widths, blocks, strict=True):
        kind = "residual" if block == "r" else "dense"
        configuration |= {f"{stage}.width": width, f"{stage}.block": kind, f"{stage}.depth": depth}
        configuration[f"{stage}.down"] = "none" if stage == "stage1" and stem_stride == 2 else "stride"
    return configuration


def _blocks(stage: Mapping[str, Any], *, width_in: int, width: int, activation: str) -> dict[str, nn.Module | None]:
    pool = nn.MaxPool2d(2) if stage["down"] == "max_pool" else None
    blocks: dict[str, nn.Module | None] = {"pool": pool}
    for i in range(stage["depth"]):
        stride = 2 if i == 0 and stage["down"] == "stride" else 1
        block = _residual_block if stage["block"] == "residual" else _dense_block
        blocks[f"block{i}"] = block(width if i else width_in, width, stride, activation, has_projection=i == 0)
    return blocks


def _dense_block(width_in: int, width: int, stride: int, activation: str, *, has_projection: bool) -> nn.Module:
    return conv_bn_act(width_in, width, 3, stride=stride, activation=activation)


def _residual_block(width_in: int, width: int, stride: int, activation: str, *, has_projection: bool) -> nn.Module:
    body = named_sequential(
        first=conv_bn_act(width_in, width, 3, stride=stride, activation=activation),
        second=conv_bn_act(width, width, 3, activation=None),
    )
    # The first block of a stage has a projection. An identity would tie the channels of two stages of equal width,
    # which could then only be pruned together.
    shortcut = conv_bn_act(width_in, width, 1, stride=stride, activation=None) if has_projection else None
    return Residual(body, shortcut=shortcut, activation=activation)


def _block_workload(
    kind: str, width_in: int, width: int, before: int, after: int, activation: str, *, has_projection: bool
) -> list[Workload]:
    first, act = layer_workload(9, width_in, width, before, after), activation_workload(activation, width, after)
    if kind == "dense":
        return [first, act]
    shortcut = [layer_workload(1, width_in, width, before, after)] if has_projection else []
    return [
        first,
        act,
        layer_workload(9, width, width, after, after),
        *shortcut,
        fused_workload(width, after, n_maps=1),
        act,
    ]


SPACE = PlainSpace()
