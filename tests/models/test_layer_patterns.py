"""Patterns of layer names, and layers that are kept: neither pruned, factorised nor quantised."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas.candidate import Candidate
from nas.compression.base import CompressionContext
from nas.compression.pipeline import CompressionPipeline
from nas.compression.quantization.fake_quantize import FakeQuantize, QuantizedLayer
from nas.config import make_config
from nas.errors import ConfigError
from nas.models.layer_patterns import layer_names, match_layers
from nas.models.user_model import UserModelSpace, load_user_model
from nas.registry import load
from nas.targets.catalog import load_target
from nas.training.model_builder import ModelBuilder
from tests import outside_nets as nets
from tests.conftest import learnable_faces

FACES = learnable_faces(train=64, val=8)
KEPT = "layer2.0.conv1"


def space_of(model: str = "tests.outside_nets:ResNet", **fields: Any) -> UserModelSpace:
    return load_user_model(make_config(model=model, **fields), FACES, channel_multiple=8)


def context_of(space: UserModelSpace, pipeline: CompressionPipeline, genes: dict[str, Any]) -> CompressionContext:
    candidate: Candidate = pipeline.decode(space, genes)
    return CompressionContext(
        candidate=candidate, profile=pipeline.profile, input_shape=FACES.input_shape, images=FACES.train.images,
        labels=FACES.train.labels, kept_layers=space.kept_layers,
    )  # fmt: skip


def test_patterns_match_whole_names_and_the_modules_above_them() -> None:
    names = ["blocks.1.conv", "blocks.10.conv", "fc"]
    assert match_layers(["blocks.1"], names, option="--keep") == {"blocks.1.conv"}
    assert match_layers(["blocks.*", "fc"], names, option="--keep") == set(names)
    assert match_layers([], names, option="--keep") == frozenset()


def test_a_pattern_without_a_layer_is_refused_with_names_that_exist() -> None:
    with pytest.raises(
        ConfigError, match=r"--keep must name layers .* 'layer9\.\*' matches none of .*layer1\.0\.conv1"
    ):
        space_of(keep=["layer9.*"])


def test_layers_of_users_and_of_published_nets_have_their_own_names() -> None:
    user, published = space_of(), space_of("resnet8")
    build = {"input_shape": (1, 32, 32), "classes": 3}
    assert "conv1" in layer_names(user.build(user.decode({}), **build)).values()  # type: ignore[arg-type]
    names = layer_names(published.build(published.decode({}), **build))  # type: ignore[arg-type]
    assert all(name == other for name, other in names.items())
    assert any(name.startswith("stage1.") for name in names)


def test_a_kept_layer_keeps_every_weight_when_the_rest_is_pruned() -> None:
    space = space_of(keep=[KEPT])
    (name,) = space.kept_layers
    pipeline = CompressionPipeline(compressors=[load("compressor", "prune_structured")], profile=load_target("cpu"))
    context = context_of(space, pipeline, {"sparsity.stage1": 0.5, "sparsity.stage2": 0.5})
    wide = space.build(space.decode({}), input_shape=FACES.input_shape, classes=3)
    slim = space.build(space.decode({}), input_shape=FACES.input_shape, classes=3, widths=context.candidate.pruned)
    pipeline.prune(wide, slim, context)
    before, after = wide.get_submodule(name), slim.get_submodule(name)
    assert torch.equal(before.get_parameter("weight"), after.get_parameter("weight"))
    assert sum(p.numel() for p in slim.parameters()) < sum(p.numel() for p in wide.parameters())


@pytest.mark.parametrize("target", ["cpu", "jetson"])
def test_a_kept_layer_is_in_the_widest_precision_and_its_activation_with_it(target: str) -> None:
    space = space_of(keep=[KEPT])
    (name,) = space.kept_layers
    pipeline = CompressionPipeline(compressors=[load("compressor", "quantize")], profile=load_target(target))
    genes = {f"bits.{unit}": 8 for unit in ("stem", *space.stages, "head")}
    context = context_of(space, pipeline, genes)
    net = space.build(space.decode({}), input_shape=FACES.input_shape, classes=3)
    graph = pipeline.compress_graph(net, context)
    layer = graph.get_submodule(name)
    assert isinstance(layer, nn.Conv2d)
    others = [m for n, m in graph.named_modules() if isinstance(m, QuantizedLayer) and n != name]
    assert len(others) == 8  # of the nine layers with weights all but the kept one
    (node,) = [n for n in graph.graph.nodes if n.target == name]
    (reader,) = node.users
    assert not isinstance(graph.get_submodule(str(reader.target)), FakeQuantize)
    if target == "jetson":  # FP16 is the widest precision there
        weight = layer.weight
        assert torch.equal(weight, weight.half().float())


def test_a_kept_layer_is_never_narrower_than_its_stage() -> None:
    space = space_of(keep=[KEPT])
    (name,) = space.kept_layers
    pipeline = CompressionPipeline(compressors=[load("compressor", "quantize")], profile=load_target("jetson"))
    context = context_of(space, pipeline, {})
    context = replace(
        context, candidate=replace(context.candidate, bits=dict.fromkeys(("stem", *space.stages, "head"), 32))
    )
    net = space.build(space.decode({}), input_shape=FACES.input_shape, classes=3)
    weight = pipeline.compress_graph(net, context).get_submodule(name).weight
    assert isinstance(weight, Tensor)
    assert not torch.equal(weight, weight.half().float())


def test_bits_of_single_layers_take_precedence() -> None:
    space = space_of()
    pipeline = CompressionPipeline(compressors=[load("compressor", "quantize")], profile=load_target("cpu"))
    context = context_of(space, pipeline, {f"bits.{unit}": 32 for unit in ("stem", *space.stages, "head")})
    net = space.build(space.decode({}), input_shape=FACES.input_shape, classes=3)
    name = next(n for n, other in layer_names(net).items() if other == KEPT)
    graph = pipeline.compress_graph(net, replace(context, layer_bits={name: 8}))
    assert [n for n, m in graph.named_modules() if isinstance(m, QuantizedLayer)] == [name]


def test_a_kept_layer_is_not_factorised_or_sparse() -> None:
    space = space_of(keep=["layer2"])
    pipeline = CompressionPipeline(compressors=[load("compressor", "prune_unstructured")], profile=load_target("cpu"))
    context = context_of(space, pipeline, {"zeros.stage1": 0.5, "zeros.stage2": 0.5, "zeros_scope": "layer"})
    graph = pipeline.compress_graph(space.build(space.decode({}), input_shape=FACES.input_shape, classes=3), context)
    zeros = {n: int((p == 0).sum()) for n, p in graph.named_parameters() if p.ndim > 1}
    assert any(count for name, count in zeros.items() if "layer1" in name)
    assert not any(count for name, count in zeros.items() if "layer2" in name)


def test_a_search_hands_the_kept_layers_to_its_compressors() -> None:
    space, compression = space_of(keep=[KEPT]), CompressionPipeline(compressors=[], profile=load_target("cpu"))
    fields = make_config().compression
    builder = ModelBuilder(compression_config=fields, space=space, compression=compression, data=FACES)
    context = builder.compression_context(compression.decode(space, {}), 4)
    assert builder.notes == ("layers kept as they are, whatever the bits of their stage: 1",)
    assert context.kept_layers == space.kept_layers == {f"stage2.{KEPT}"}
    assert context.is_kept(f"stage2.{KEPT}.weight")
    assert not context.is_kept(f"stage2.{KEPT}0")


def test_nets_of_tests_have_the_layer_that_is_kept() -> None:
    assert KEPT in dict(nets.ResNet().named_modules())
