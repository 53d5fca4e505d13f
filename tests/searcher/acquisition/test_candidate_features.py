"""Candidates in numbers: the work of their nets by bit-width, and traits that tell them apart."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas import registry
from nas.compression.pipeline import CompressionPipeline
from nas.latency.costs import Kernel, compute_costs
from nas.onnx_export.exporter import export_onnx
from nas.onnx_export.folding import fold
from nas.searcher.acquisition.candidate_features import COST_COLUMNS, FeatureExtractor, _work_by_bits, macs
from nas.targets.catalog import load_target
from search_spaces._base import Architecture, DisconnectedError, SearchSpace, Value
from search_spaces._work import WORKLOAD_FIELDS, sum_workloads
from tests.random_nets import CLASSES, SHAPE, context_of, exported, random_net

PROFILE = load_target("jetson")
MEMBERS = ("prune_structured", "low_rank", "quantize", "few_bits")
COMPRESSION = CompressionPipeline(compressors=[registry.load("compressor", name) for name in MEMBERS], profile=PROFILE)
SPACES = {name: registry.load("space", name) for name in registry.names("space")}
GENES = {
    name: [*space.choices(channel_multiple=PROFILE.channel_multiple), *COMPRESSION.choices(space.stages)]
    for name, space in SPACES.items()
}
DESCRIBERS = {
    name: FeatureExtractor(
        space, GENES[name], neutral=COMPRESSION.neutral_settings(space.stages), input_shape=(1, 48, 48), classes=7
    )
    for name, space in SPACES.items()
}  # fmt: skip

KERNELS = ("dense", "pointwise", "depthwise", "moving")
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
    works = SPACES[space].workload(candidate.architecture, input_shape=(1, 48, 48), classes=7, widths=candidate.pruned)
    columns = dict(zip(COST_COLUMNS, found.cost_columns, strict=True))
    assert columns["fixed"] == 1
    for bits in (8, 16, 32):
        units = [u for u in works if candidate.bits.get(u, 32) == bits]
        work = dict(zip(WORKLOAD_FIELDS, sum_workloads(works[u] for u in units), strict=True))
        joined = work.pop("joined")
        work["moving"] += joined if bits == 8 else 0
        assert {part: columns[f"{part}{bits}"] for part in work} == work
    assert np.isfinite(found.features).all()
    assert found.features.shape == DESCRIBERS[space](COMPRESSION.decode(SPACES[space], a_pick(space, 0))).features.shape


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
    works = SPACES[space].workload(candidate.architecture, input_shape=(1, 48, 48), classes=7, widths=candidate.pruned)
    assert sum(macs(work) for work in works.values()) == sum(done)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("attention", ["none", "se", "eca"])
@pytest.mark.parametrize("seed", range(3))
def test_the_kernels_are_those_of_the_file(space: str, attention: str, seed: int, tmp_path: Path) -> None:
    picked = a_pick(space, seed, attention=attention)
    architecture = COMPRESSION.decode(SPACES[space], picked).architecture
    net = SPACES[space].build(architecture, input_shape=SHAPE, classes=len(CLASSES)).eval()
    kernels = compute_costs(exported(net, tmp_path).path).kernels
    work = the_work(SPACES[space], architecture, dict.fromkeys(SPACES[space].stages, 32))
    assert {part: work[part] for part in KERNELS} == counted(kernels)
    moved = sum(kernel.input_bytes + kernel.output_bytes for kernel in kernels) / 4
    assert work["moved"] + work["elements"] == pytest.approx(moved, rel=0.03)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("seed", range(4))
def test_the_kernels_are_those_of_a_file_in_8_bits(space: str, seed: int, tmp_path: Path) -> None:
    found = random_net(space, seed=seed, cells=2)
    bits = dict.fromkeys(found.units, 8)
    graph = registry.load("compressor", "quantize").rewrite_graph(fold(found.net, input_shape=SHAPE), context_of(bits))
    file = export_onnx(graph, tmp_path / "8.onnx", input_shape=SHAPE, classes=CLASSES, metadata={})
    work = the_work(found.space, found.architecture, bits)
    assert {part: work[part] for part in KERNELS} == counted(compute_costs(file.path).kernels)


def the_work(space: SearchSpace, architecture: Architecture, bits: dict[str, int]) -> dict[str, float]:
    """The parts of a net's work, as its columns count them, of all bit-widths."""
    works = space.workload(architecture, input_shape=SHAPE, classes=len(CLASSES))
    return dict(zip(WORKLOAD_FIELDS[:-1], sum_workloads(_work_by_bits(bits, works)), strict=True))


def counted(kernels: Sequence[Kernel]) -> dict[str, int]:
    """How many kernels of a file there are of each sort, without the softmax, which nets do not have."""
    found = Counter(KINDS.get(kernel.kind, "moving") for kernel in kernels)
    return {part: found[part] - (part == "moving") for part in KERNELS}


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
    assert not np.array_equal(DESCRIBERS[space](first).features, DESCRIBERS[space](second).features)


@pytest.mark.parametrize("space", SPACES)
def test_many_are_described_as_each_is(space: str) -> None:
    candidates = [COMPRESSION.decode(SPACES[space], a_pick(space, seed)) for seed in range(4)]
    for candidate, found in zip(candidates, DESCRIBERS[space].extract_all(candidates), strict=True):
        alone = DESCRIBERS[space](candidate)
        np.testing.assert_array_equal(found.cost_columns, alone.cost_columns)
        np.testing.assert_allclose(found.features, alone.features, rtol=1e-15)
    assert DESCRIBERS[space].extract_all([]) == []
