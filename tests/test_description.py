"""Candidates in numbers: the work of their nets by bit-width, and traits that tell them apart."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas import registry
from nas.compression import Compression
from nas.costs import costs
from nas.description import COLUMNS, Describer, macs
from nas.targets import target
from search_spaces._base import DisconnectedError, Value
from search_spaces._work import PARTS, total
from tests.random_nets import CLASSES, SHAPE, exported

PROFILE = target("jetson")
MEMBERS = ("prune_structured", "low_rank", "quantize", "few_bits")
COMPRESSION = Compression(members=[registry.load("compressor", name) for name in MEMBERS], profile=PROFILE)
SPACES = {name: registry.load("space", name) for name in registry.names("space")}
GENES = {
    name: [*space.choices(channel_multiple=PROFILE.channel_multiple), *COMPRESSION.choices(space.stages)]
    for name, space in SPACES.items()
}
DESCRIBERS = {
    name: Describer(
        space, GENES[name], neutral=COMPRESSION.neutral(space.stages), input_shape=(1, 48, 48), classes=7
    )
    for name, space in SPACES.items()
}  # fmt: skip

KINDS = {
    "conv": "dense",
    **dict.fromkeys(("pointwise", "linear"), "pointwise"),
    **dict.fromkeys(("depthwise", "grouped"), "depthwise"),
}
"""Kinds of kernels with weights, and the part of the work that counts them."""


def a_pick(space: str, seed: int, **fixed: Value) -> dict[str, Value]:
    """A pick with a path."""
    rng = np.random.default_rng(seed)
    while True:
        picked = {g.name: g.options[int(rng.integers(len(g.options)))] for g in GENES[space]} | fixed
        try:
            COMPRESSION.decode(SPACES[space], picked)
        except DisconnectedError:
            continue
        return picked


@pytest.mark.parametrize("space", SPACES)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_columns_are_the_work_of_all_units_by_their_bits(space: str, seed: int) -> None:
    candidate = COMPRESSION.decode(SPACES[space], a_pick(space, seed))
    found = DESCRIBERS[space](candidate)
    works = SPACES[space].work(candidate.architecture, input_shape=(1, 48, 48), classes=7, widths=candidate.pruned)
    columns = dict(zip(COLUMNS, found.columns, strict=True))
    assert columns["fixed"] == 1
    for i, part in enumerate(PARTS):
        for bits in (8, 16, 32):
            units = [u for u in works if candidate.bits.get(u, 32) == bits]
            assert columns[f"{part}{bits}"] == sum(works[u][i] for u in units)
    assert np.isfinite(found.traits).all()
    assert found.traits.shape == DESCRIBERS[space](COMPRESSION.decode(SPACES[space], a_pick(space, 0))).traits.shape


@pytest.mark.parametrize("space", SPACES)
def test_the_work_is_that_of_the_net(space: str) -> None:
    candidate = COMPRESSION.decode(SPACES[space], a_pick(space, 3))
    net = SPACES[space].build(candidate.architecture, input_shape=(1, 48, 48), classes=7, widths=candidate.pruned)
    done: list[int] = []
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.register_forward_hook(
                lambda m, i, o: done.append(m.weight[0].numel() * o.shape[1] * int(o[0, 0].numel()))
            )
    with torch.no_grad():
        net.eval()(torch.zeros(1, 1, 48, 48))
    works = SPACES[space].work(candidate.architecture, input_shape=(1, 48, 48), classes=7, widths=candidate.pruned)
    assert sum(macs(work) for work in works.values()) == sum(done)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("seed", range(6))
def test_the_kernels_are_those_of_the_file(space: str, seed: int, tmp_path: Path) -> None:
    architecture = COMPRESSION.decode(SPACES[space], a_pick(space, seed)).architecture
    net = SPACES[space].build(architecture, input_shape=SHAPE, classes=len(CLASSES)).eval()
    kernels = costs(exported(net, tmp_path).path).kernels
    works = SPACES[space].work(architecture, input_shape=SHAPE, classes=len(CLASSES))
    work = dict(zip(PARTS, total(works.values()), strict=True))
    counted = Counter(KINDS.get(kernel.kind, "moving") for kernel in kernels)
    counted["moving"] -= 1  # the softmax, which only the file has
    assert Counter({part: work[part] for part in ("dense", "pointwise", "depthwise", "moving")}) == counted
    moved = sum(kernel.input_bytes + kernel.output_bytes for kernel in kernels) / 4
    assert work["moved"] + work["elements"] == pytest.approx(moved, rel=0.08)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize(
    ("gene", "values"),
    [
        ("activation", ("relu", "hard_swish")),
        ("bits.stem", (8, 16)),
        ("rank.stage1", (0.25, 1.0)),
        ("input_size", (40, 64)),
    ],
)
def test_genes_that_have_an_effect_are_seen_in_the_traits(space: str, gene: str, values: tuple[Value, Value]) -> None:
    whole = dict.fromkeys([g.name for g in GENES[space] if g.name.startswith("rank.")], 1.0)
    picked = a_pick(space, 5) | whole
    if "stage1" not in SPACES[space].widths(SPACES[space].decode(picked)):
        picked = a_pick(space, 11) | whole
    first, second = (COMPRESSION.decode(SPACES[space], picked | {gene: value}) for value in values)
    assert first.key != second.key
    assert not np.array_equal(DESCRIBERS[space](first).traits, DESCRIBERS[space](second).traits)


@pytest.mark.parametrize("space", SPACES)
def test_many_are_described_as_each_is(space: str) -> None:
    candidates = [COMPRESSION.decode(SPACES[space], a_pick(space, seed)) for seed in range(4)]
    for candidate, found in zip(candidates, DESCRIBERS[space].all(candidates), strict=True):
        alone = DESCRIBERS[space](candidate)
        np.testing.assert_array_equal(found.columns, alone.columns)
        np.testing.assert_allclose(found.traits, alone.traits, rtol=1e-15)
    assert DESCRIBERS[space].all([]) == []
