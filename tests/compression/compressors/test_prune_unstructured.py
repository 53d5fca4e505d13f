"""Unstructured pruning of real nets: where the genes put zeros, through a real training, and in the file."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from nas.compression.base import CompressionContext
from nas.compression.compressors.prune_unstructured import COMPRESSOR, has_sparse_tensor_cores, parameter_groups
from nas.data.base import Split
from nas.latency.costs import compute_costs, packed_bytes
from nas.onnx_export.exporter import export_onnx
from nas.onnx_export.folding import fold
from nas.targets.catalog import load_target
from nas.training.execution_format import ExecutionFormat
from nas.training.loop import train
from nas.training.recipe import Recipe
from search_spaces._base import Value
from tests.random_nets import CLASSES, SHAPE, context_of, labels_of, pictures, random_net

STAGES = ("stage1", "stage2")


class Wide(nn.Module):
    """Two stages: the first has one layer that is wide enough for 2:4 and one that is not; and there is a depthwise
    layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, stride=4)
        self.stage1 = nn.Sequential(
            nn.Conv2d(8, 256, 1), nn.Conv2d(256, 256, 1), nn.Conv2d(256, 256, 3, groups=256), nn.Conv2d(256, 8, 1)
        )
        self.stage2 = nn.Conv2d(8, 16, 3)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.stage2(self.stage1(self.stem(x / 255))))
        return logits


def context_with(**settings: Value) -> CompressionContext:
    named = {name.replace("__", "."): value for name, value in settings.items()}
    return context_of(widths={"stage1": 256, "stage2": 16}, pruned={"stage1": 256, "stage2": 16}, settings=named)


def zeros_of(net: nn.Module) -> dict[str, float]:
    """Share of zeros by parameter name, for weights only."""
    return {n: float((p == 0).float().mean()) for n, p in net.named_parameters() if n.endswith("weight")}


def test_sparsity_holds_for_each_layer_of_its_stage_only() -> None:
    net = Wide()
    with COMPRESSOR.training(net, context_with(zeros__stage1=0.75)):
        pass
    expected = {"stage1.0.weight": 0.75, "stage1.1.weight": 0.75, "stage1.3.weight": 0.75}
    assert {name: share for name, share in zeros_of(net).items() if share} == expected


def test_scope_global_ranks_all_layers_of_one_share_together() -> None:
    net = Wide()
    with COMPRESSOR.training(net, context_with(zeros__stage1=0.5, zeros__stage2=0.5, zeros_scope="global")):
        pass
    sparsities = zeros_of(net)
    layers = {name: net.get_parameter(name).numel() for name in sparsities if sparsities[name]}
    assert set(layers) == {"stage1.0.weight", "stage1.1.weight", "stage1.3.weight", "stage2.weight"}
    zeros = sum(round(sparsities[name] * size) for name, size in layers.items())
    assert zeros == sum(layers.values()) // 2
    assert len({sparsities[name] for name in layers}) > 1


def test_scope_global_keeps_different_shares_apart() -> None:
    net = Wide()
    groups = parameter_groups(net, {"zeros.stage1": 0.5, "zeros.stage2": 0.9, "zeros_scope": "global"})
    assert [(len(group.weights), group.sparsity) for group in groups] == [(3, 0.5), (1, 0.9)]


def test_two_of_four_applies_to_wide_layers_only() -> None:
    net = Wide()
    with COMPRESSOR.training(net, context_with(zeros__stage1=0.5, zeros_pattern="2:4")) as before_step:
        for step in range(10):
            before_step(step / 10)
    assert {name: share for name, share in zeros_of(net).items() if share} == {"stage1.1.weight": 0.5}
    groups = net.get_parameter("stage1.1.weight").squeeze().unflatten(1, (-1, 4))
    assert bool(((groups == 0).sum(-1) == 2).all())


@pytest.mark.parametrize(
    ("picked", "settings"),
    [
        ({}, {}),
        ({"zeros.stage1": 0.0, "zeros_scope": "global", "zeros_pattern": "free"}, {}),
        ({"zeros.stage1": 0.5, "zeros_scope": "layer"}, {"zeros.stage1": 0.5}),
        ({"zeros.stage2": 0.9, "zeros_scope": "global"}, {"zeros.stage2": 0.9, "zeros_scope": "global"}),
        ({"zeros.stage3": 0.9}, {}),
        ({"zeros.stage1": 0.9, "zeros_pattern": "2:4"}, {"zeros.stage1": 0.5, "zeros_pattern": "2:4"}),
        ({"zeros.stage2": 0.9, "zeros_pattern": "2:4"}, {}),
    ],
)
def test_genes_without_effect_are_left_out(picked: dict[str, Value], settings: dict[str, Value]) -> None:
    assert COMPRESSOR.effective_settings(picked, context_with().candidate) == settings


@pytest.mark.parametrize(
    ("target", "skips"),
    [("cpu", False), ("jetson-nano", False), ("jetson-agx-xavier", False), ("jetson", True), ("cuda-blackwell", True)],
)
def test_the_pattern_is_a_gene_only_with_sparse_tensor_cores(target: str, skips: bool) -> None:
    profile = load_target(target)
    assert has_sparse_tensor_cores(profile) == skips
    names = {choice.name for choice in COMPRESSOR.choices(STAGES, profile)}
    assert ("zeros_pattern" in names) == skips
    assert {"zeros.stage1", "zeros.stage2", "zeros_scope"} <= names


@pytest.mark.parametrize(
    "execution", [ExecutionFormat(), ExecutionFormat(memory_format="channels_last", precision="bf16")]
)
def test_zeros_are_exact_after_weight_averaging(execution: ExecutionFormat) -> None:
    sample = random_net("plain", seed=1)
    stage = next(iter(sample.widths))
    context = context_of(widths=sample.widths, pruned=sample.widths, settings={f"zeros.{stage}": 0.9})
    net, images = copy.deepcopy(sample.net), pictures(64, seed=1)
    split, seen = Split(images=images, labels=labels_of(images)), []
    with COMPRESSOR.training(net, context) as before_step:

        def watched(progress: float) -> None:
            before_step(progress)
            seen.append(sum(pool.current_sparsity for pool in parameter_groups(net, context.candidate.settings)))

        train(
            net, split, classes=4, epochs=5, recipe=Recipe(batch_size=16), execution=execution, seed=0,
            before_step=watched,
        )  # fmt: skip
        averaged = parameter_groups(net, context.candidate.settings)
        assert all(
            pool.current_sparsity < 0.89 for pool in averaged
        )  # the moving average still holds old weights, so `finish` must zero again
    assert seen == sorted(seen)
    for pool in parameter_groups(net, context.candidate.settings):
        (weight,) = pool.weights
        assert int((weight == 0).sum()) == int(0.9 * weight.numel())


def test_the_file_keeps_its_parameters_and_bytes_and_packs_smaller(tmp_path: Path) -> None:
    sample = random_net("plain", seed=1)
    settings: dict[str, Value] = {f"zeros.{stage}": 0.9 for stage in sample.widths}
    context = context_of(widths=sample.widths, pruned=sample.widths)
    sparse = replace(context, candidate=replace(context.candidate, settings=settings))
    files = []
    for number, each in enumerate((context, sparse)):
        graph = COMPRESSOR.rewrite_graph(fold(sample.net, input_shape=SHAPE), each)
        path = tmp_path / f"{number}.onnx"
        files.append(export_onnx(graph, path, input_shape=SHAPE, classes=CLASSES, metadata={}))
    dense, thin = (compute_costs(file.path) for file in files)
    assert files[0].size_bytes == files[1].size_bytes
    assert (dense.params, dense.macs) == (thin.params, thin.macs)
    ranked = sum(w.numel() for pool in parameter_groups(sample.net, settings) for w in pool.weights)
    assert thin.nonzero_params == pytest.approx(dense.nonzero_params - 0.9 * ranked, abs=20)
    assert packed_bytes(files[1].path) < 0.5 * packed_bytes(files[0].path)


def test_the_graph_keeps_the_zeros_of_the_training() -> None:
    sample = random_net("darts", seed=1)
    settings: dict[str, Value] = {f"zeros.{stage}": 0.75 for stage in sample.widths}
    context = context_of(widths=sample.widths, pruned=sample.widths, settings=settings)
    net = copy.deepcopy(sample.net)
    with COMPRESSOR.training(net, context):
        pass
    graph = fold(net, input_shape=SHAPE)
    before = {name: weight.detach().clone() for name, weight in graph.named_parameters()}
    COMPRESSOR.rewrite_graph(graph, context)
    assert all(torch.equal(before[name], weight) for name, weight in graph.named_parameters())
