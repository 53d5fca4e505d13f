"""Plain space: closed-form parameter counts, merged stages, and prunable shortcuts."""

import torch

from search_spaces._base import Value
from search_spaces.plain import SPACE

BASE: dict[str, Value] = {
    "stem_width": 8,
    "stem_stride": 1,
    "input_size": 48,
    "activation": "relu",
    "attention": "none",
}


def pick(*stages: tuple[int, int, str, str], **macro: Value) -> dict[str, Value]:
    picked: dict[str, Value] = {**BASE, **macro}
    for i, genes in enumerate((*stages, *[(0, 8, "dense", "none")] * (4 - len(stages))), start=1):
        picked |= dict(zip((f"stage{i}.{gene}" for gene in ("depth", "width", "block", "down")), genes, strict=True))
    return picked


def params(picked: dict[str, Value]) -> int:
    net = SPACE.build(SPACE.decode(picked), input_shape=(1, 48, 48), classes=7)
    return sum(p.numel() for p in net.parameters())


def test_parameters_of_a_dense_chain() -> None:
    picked = pick((1, 16, "dense", "max_pool"), (2, 32, "dense", "stride"), (1, 64, "dense", "none"))
    convs = 9 * (8 + 8 * 16 + 16 * 32 + 32 * 32 + 32 * 64)
    assert params(picked) == convs + 2 * (8 + 16 + 32 + 32 + 64) + 64 * 7 + 7


def test_parameters_of_a_residual_chain() -> None:
    picked = pick((2, 16, "residual", "stride"), (1, 16, "residual", "stride"), (1, 16, "dense", "none"))
    first = 9 * (8 * 16 + 16 * 16) + 8 * 16 + 3 * 2 * 16
    second = 9 * 2 * 16 * 16 + 2 * 2 * 16
    third = second + 16 * 16 + 2 * 16  # the first block of a stage has a 1x1 shortcut even at equal widths
    assert params(picked) == (9 * 8 + 16) + first + second + third + (9 * 16 * 16 + 32) + 16 * 7 + 7


def test_a_stage_without_a_change_is_merged_into_the_one_before() -> None:
    one = SPACE.decode(pick((1, 16, "dense", "stride"), (2, 16, "dense", "none"), (1, 32, "dense", "stride")))
    other = SPACE.decode(pick((2, 16, "dense", "stride"), (1, 16, "dense", "none"), (1, 32, "dense", "stride")))
    assert one == other
    assert SPACE.widths(one) == {"stage1": 16, "stage3": 32}
    changed = SPACE.decode(pick((1, 16, "dense", "stride"), (2, 16, "dense", "max_pool"), (1, 32, "dense", "stride")))
    assert list(SPACE.widths(changed)) == ["stage1", "stage2", "stage3"]


def test_genes_of_an_empty_stage_are_dropped() -> None:
    stages = [(1, 16, "dense", "stride")] * 3
    first = SPACE.decode(pick(*stages))
    assert SPACE.decode(pick(*stages, (0, 64, "residual", "max_pool"))) == first
    assert "stage4" not in SPACE.widths(first)


def test_each_kind_of_downsampling() -> None:
    picked = pick((1, 8, "dense", "none"), (1, 8, "residual", "stride"), (1, 8, "dense", "max_pool"), stem_stride=2)
    net = SPACE.build(SPACE.decode(picked), input_shape=(3, 48, 48), classes=7).eval()
    sides: dict[str, int] = {}
    for name in ("stem", "stage1", "stage2", "stage3"):
        net.get_submodule(name).register_forward_hook(lambda m, i, out, name=name: sides.update({name: out.shape[-1]}))
    net(torch.rand(1, 3, 48, 48))
    assert sides == {"stem": 24, "stage1": 24, "stage2": 12, "stage3": 6}


def test_attention_is_at_the_end_of_the_last_stage_in_use() -> None:
    picked = pick((1, 8, "dense", "none"), (1, 8, "dense", "stride"), (2, 16, "dense", "stride"), attention="eca")
    net = SPACE.build(SPACE.decode(picked), input_shape=(1, 48, 48), classes=7)
    assert {name for name, _ in net.named_modules() if name.endswith("attention")} == {"stage3.attention"}
    assert [name for name, _ in net.get_submodule("stage3").named_children()] == ["block0", "block1", "attention"]


def test_large_configurations_are_networks_that_use_a_latency_budget() -> None:
    space = SPACE
    for channel_multiple in (1, 4, 8, 16):
        large = space.large_configurations(channel_multiple=channel_multiple)
        sizes = [
            sum(p.numel() for p in space.build(space.decode(each), input_shape=(1, 48, 48), classes=7).parameters())
            for each in large
        ]
        assert [round(size, -5) for size in sizes] == [600_000, 2_800_000]
