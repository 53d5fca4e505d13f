"""Low-rank nets: which layers are factorised, shapes that do not depend on weights, and the flow around them."""

import copy
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from nas.compression.base import CompressionContext
from nas.compression.compressors.low_rank import COMPRESSOR
from nas.compression.compressors.prune_structured import COMPRESSOR as PRUNE
from nas.compression.pipeline import CompressionPipeline
from nas.data.base import Split
from nas.latency.costs import compute_costs
from nas.onnx_export.exporter import export_onnx
from nas.onnx_export.folding import fold
from nas.onnx_export.parity import check_parity
from nas.runtimes.backends.onnxruntime import RUNTIME
from nas.targets.catalog import load_target
from nas.training.execution_format import ExecutionFormat
from nas.training.loop import train
from nas.training.recipe import Recipe
from search_spaces._base import Value
from search_spaces.plain import SPACE
from tests.random_nets import (
    CLASSES,
    SHAPE,
    SPACES,
    RandomNet,
    context_of,
    labels_of,
    pictures,
    random_net,
    trained_net,
)


def context_for(
    sample: RandomNet, *, share: float = 0.25, decomposition: str = "tucker", **fields: object
) -> CompressionContext:
    """A context whose candidate has reduced rank in every stage; `fields` replace fields of the candidate."""
    settings: dict[str, Value] = {f"rank.{stage}": share for stage in sample.widths}
    settings |= {"decomposition": decomposition} if decomposition == "cp" else {}
    plain: dict[str, object] = {"widths": sample.widths, "pruned": sample.widths, "settings": settings}
    return context_of(**(plain | fields))  # type: ignore[arg-type]


def shapes(net: nn.Module) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor of the state dict."""
    return {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}


@cache
def wide(space_name: str) -> RandomNet:
    """A net with layers that are large enough to factorise."""
    fixed = {"plain": {"stage1.width": 64, "stage1.block": "dense"}, "darts": {"width": 32, "cells": 2}}.get(
        space_name, {}
    )
    return random_net(space_name, seed=1, input_size=32, **fixed)


def fresh(sample: RandomNet) -> nn.Module:
    """The same architecture with other weights, as it is built for an untrained export."""
    return sample.space.build(sample.architecture, input_shape=SHAPE, classes=len(CLASSES))


@pytest.mark.parametrize("space_name", SPACES)
@pytest.mark.parametrize("decomposition", ["tucker", "cp"])
def test_shapes_do_not_depend_on_weights(space_name: str, decomposition: str) -> None:
    sample = wide(space_name)
    context = context_for(sample, decomposition=decomposition)
    full = COMPRESSOR.restructure(copy.deepcopy(sample.net), context)
    drafted = COMPRESSOR.restructure(fresh(sample), replace(context, shapes_only=True))
    other_bits = replace(context, candidate=replace(context.candidate, bits=dict.fromkeys(sample.units, 8)))
    other_precision = COMPRESSOR.restructure(fresh(sample), replace(other_bits, shapes_only=True))
    assert shapes(full) == shapes(drafted) == shapes(other_precision)
    assert shapes(full) != shapes(sample.net)
    drafted.load_state_dict(full.state_dict())
    assert not full.training


def test_only_dense_layers_of_stages_that_lose_rank_change() -> None:
    sample = random_net("plain", seed=3, **{"stage1.width": 64, "stage1.depth": 2, "stage2.width": 64})
    stages = list(sample.widths)
    context = context_for(sample)
    settings: dict[str, Value] = {f"rank.{stages[0]}": 0.25}
    one = replace(context, candidate=replace(context.candidate, settings=settings))
    net = COMPRESSOR.restructure(copy.deepcopy(sample.net), one)
    before, after = shapes(sample.net), shapes(net)
    changed = set(before.keys() ^ after.keys())
    assert changed
    assert all(name.startswith(f"{stages[0]}.") for name in changed)
    assert not any(".bn." in name for name in changed)
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in after.keys() - before.keys()} <= {
        "reduce", "core", "expand",
    }  # fmt: skip


@pytest.mark.parametrize("space_name", SPACES)
@pytest.mark.parametrize("decomposition", ["tucker", "cp"])
def test_the_file_has_fewer_weights_and_multiply_accumulates_and_agrees(
    space_name: str, decomposition: str, tmp_path: Path
) -> None:
    sample = wide(space_name)
    net = COMPRESSOR.restructure(copy.deepcopy(sample.net), context_for(sample, decomposition=decomposition)).eval()
    graphs = [fold(each, input_shape=SHAPE) for each in (sample.net, net)]
    files = [
        export_onnx(graph, tmp_path / f"{i}.onnx", input_shape=SHAPE, classes=CLASSES, metadata={})
        for i, graph in enumerate(graphs)
    ]
    full, low = (compute_costs(file.path) for file in files)
    assert low.params < full.params
    assert low.macs < full.macs
    assert files[1].size_bytes < files[0].size_bytes
    check_parity(graphs[1], RUNTIME.load(files[1].path), pictures(50, seed=5), path=files[1].path)


@pytest.mark.parametrize("space_name", SPACES)
def test_low_rank_works_after_channel_pruning(space_name: str, tmp_path: Path) -> None:
    sample = trained_net(space_name, seed=1)
    pruned = {stage: width // 2 // 8 * 8 for stage, width in sample.widths.items()}
    context = context_for(sample, pruned=pruned)
    compression = CompressionPipeline(compressors=[PRUNE, COMPRESSOR], profile=context.profile)
    slim = sample.space.build(sample.architecture, input_shape=SHAPE, classes=len(CLASSES), widths=pruned)
    compression.prune(sample.net, slim, context)
    net = compression.restructure(slim, context).eval()
    graph = compression.compress_graph(net, context)
    file = export_onnx(graph, tmp_path / "m.onnx", input_shape=SHAPE, classes=CLASSES, metadata={})
    check_parity(graph, RUNTIME.load(file.path), pictures(50, seed=5), path=file.path)
    assert compression.changes_shape(context.candidate)


def test_without_pruning_the_slim_net_copies_the_wide_one() -> None:
    sample = trained_net("plain", seed=1)
    slim, context = fresh(sample), context_for(sample)
    CompressionPipeline(compressors=[COMPRESSOR], profile=context.profile).prune(sample.net, slim, context)
    assert all(torch.equal(a, b) for a, b in zip(sample.net.parameters(), slim.parameters(), strict=True))


@pytest.mark.parametrize("decomposition", ["tucker", "cp"])
def test_higher_rank_is_closer_to_the_full_layer(decomposition: str) -> None:
    sample = trained_net("plain", seed=2, **{"stage1.width": 64, "stage1.block": "dense"})
    x = torch.from_numpy(pictures(32, seed=4)).float()
    errors = []
    for share in (0.25, 0.5):
        net = COMPRESSOR.restructure(
            copy.deepcopy(sample.net), context_for(sample, share=share, decomposition=decomposition)
        )
        with torch.no_grad():
            errors.append(float((net.eval()(x) - sample.net(x)).norm()))
    assert 0 < errors[1] < errors[0]


def test_a_factorised_net_can_be_trained() -> None:
    sample = trained_net("plain", seed=2, **{"stage1.width": 64, "stage1.block": "dense"})
    net = COMPRESSOR.restructure(copy.deepcopy(sample.net), context_for(sample))
    images = pictures(128, seed=6)
    split = Split(images=images, labels=labels_of(images))
    curve = train(
        net, split, classes=4, epochs=4, recipe=Recipe(batch_size=16, lr=2e-3), execution=ExecutionFormat(), seed=0
    )  # fmt: skip
    losses = [loss for _, loss, _ in curve.points]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("picked", "settings"),
    [
        ({}, {}),
        ({"rank.stage1": 1.0, "decomposition": "cp"}, {}),
        ({"rank.stage1": 0.5, "decomposition": "tucker"}, {"rank.stage1": 0.5}),
        ({"rank.stage1": 0.5, "decomposition": "cp"}, {"rank.stage1": 0.5, "decomposition": "cp"}),
        ({"rank.stage9": 0.5}, {}),
    ],
)
def test_genes_without_effect_are_left_out(picked: dict[str, Value], settings: dict[str, Value]) -> None:
    candidate = context_of(widths={"stage1": 16}, pruned={"stage1": 16}).candidate
    assert COMPRESSOR.effective_settings(picked, candidate) == settings
    assert COMPRESSOR.changes_shape(replace(candidate, settings=settings)) == bool(settings)


def test_layers_stay_dense_where_a_launch_costs_more_than_it_saves() -> None:
    sample = wide("plain")
    context = replace(context_for(sample), profile=load_target("jetson"))
    net = COMPRESSOR.restructure(copy.deepcopy(sample.net), context)
    assert shapes(net) == shapes(sample.net)


def test_restructuring_an_untrained_net_is_fast() -> None:
    picked = {choice.name: choice.options[-1] for choice in SPACE.choices(channel_multiple=8)}
    architecture = SPACE.decode(picked)
    net = SPACE.build(architecture, input_shape=SHAPE, classes=4)
    assert sum(p.numel() for p in net.parameters()) > 1e6
    settings: dict[str, Value] = {f"rank.{stage}": 0.25 for stage in SPACE.widths(architecture)}
    context = replace(context_of(settings=settings), shapes_only=True)
    COMPRESSOR.restructure(copy.deepcopy(net), context)  # imports tensorly
    begin = time.thread_time()
    COMPRESSOR.restructure(net, context)
    assert time.thread_time() - begin < 0.3
