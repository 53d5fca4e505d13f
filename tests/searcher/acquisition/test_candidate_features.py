"""Candidate features: workloads by bit-width against built networks and exported files."""

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
EXTRACTORS = {
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
"""Kind of a kernel with weights to the part of the workload that counts it."""


def some_params(space: str, seed: int, **fixed: Value) -> dict[str, Value]:
    """Random params with a path from input to output."""
    rng = np.random.default_rng(seed)
    while True:
        params = {g.name: g.options[int(rng.integers(len(g.options)))] for g in GENES[space]} | fixed
        try:
            COMPRESSION.decode(SPACES[space], params)
        except DisconnectedError:
            continue
        return params


@pytest.mark.parametrize("space", SPACES)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_cost_columns_are_the_workload_of_units_by_bit_width(space: str, seed: int) -> None:
    candidate = COMPRESSION.decode(SPACES[space], some_params(space, seed))
    found = EXTRACTORS[space](candidate)
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
    other = EXTRACTORS[space](COMPRESSION.decode(SPACES[space], some_params(space, 0)))
    assert found.features.shape == other.features.shape


@pytest.mark.parametrize("space", SPACES)
def test_macs_are_those_of_the_built_network(space: str) -> None:
    candidate = COMPRESSION.decode(SPACES[space], some_params(space, 3))
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
def test_kernels_are_those_of_the_file(space: str, attention: str, seed: int, tmp_path: Path) -> None:
    params = some_params(space, seed, attention=attention)
    architecture = COMPRESSION.decode(SPACES[space], params).architecture
    net = SPACES[space].build(architecture, input_shape=SHAPE, classes=len(CLASSES)).eval()
    kernels = compute_costs(exported(net, tmp_path).path).kernels
    work = workload_of(SPACES[space], architecture, dict.fromkeys(SPACES[space].stages, 32))
    assert {part: work[part] for part in KERNELS} == counted(kernels)
    moved = sum(kernel.input_bytes + kernel.output_bytes for kernel in kernels) / 4
    assert work["moved"] + work["elements"] == pytest.approx(moved, rel=0.03)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("seed", range(4))
def test_kernels_are_those_of_an_int8_file(space: str, seed: int, tmp_path: Path) -> None:
    found = random_net(space, seed=seed, cells=2)
    bits = dict.fromkeys(found.units, 8)
    graph = registry.load("compressor", "quantize").rewrite_graph(fold(found.net, input_shape=SHAPE), context_of(bits))
    file = export_onnx(graph, tmp_path / "8.onnx", input_shape=SHAPE, classes=CLASSES, metadata={})
    work = workload_of(found.space, found.architecture, bits)
    assert {part: work[part] for part in KERNELS} == counted(compute_costs(file.path).kernels)


def workload_of(space: SearchSpace, architecture: Architecture, bits: dict[str, int]) -> dict[str, float]:
    """Workload of a network, summed over bit-widths as the cost columns count it."""
    works = space.workload(architecture, input_shape=SHAPE, classes=len(CLASSES))
    return dict(zip(WORKLOAD_FIELDS[:-1], sum_workloads(_work_by_bits(bits, works)), strict=True))


def counted(kernels: Sequence[Kernel]) -> dict[str, int]:
    """Number of kernels of a file by part of the workload, without the softmax, which is not in the network."""
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
def test_genes_with_an_effect_change_the_features(space: str, gene: str, values: tuple[Value, Value]) -> None:
    whole = dict.fromkeys([g.name for g in GENES[space] if g.name.startswith("rank.")], 1.0)
    params = some_params(space, 5) | whole
    if "stage1" not in SPACES[space].widths(SPACES[space].decode(params)):
        params = some_params(space, 11) | whole
    first, second = (COMPRESSION.decode(SPACES[space], params | {gene: value}) for value in values)
    assert first.key != second.key
    assert not np.array_equal(EXTRACTORS[space](first).features, EXTRACTORS[space](second).features)


@pytest.mark.parametrize("space", SPACES)
def test_features_of_many_equal_those_of_each(space: str) -> None:
    candidates = [COMPRESSION.decode(SPACES[space], some_params(space, seed)) for seed in range(4)]
    for candidate, found in zip(candidates, EXTRACTORS[space].extract_all(candidates), strict=True):
        alone = EXTRACTORS[space](candidate)
        np.testing.assert_array_equal(found.cost_columns, alone.cost_columns)
        np.testing.assert_allclose(found.features, alone.features, rtol=1e-15)
    assert EXTRACTORS[space].extract_all([]) == []
