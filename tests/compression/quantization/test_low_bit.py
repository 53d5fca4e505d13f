"""Low-bit weights: how they are rounded and trained, and that the file holds int4 and computes the same."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper
from torch import nn

from nas.compression.base import CompressionContext
from nas.compression.compressors import few_bits, quantize
from nas.compression.quantization.low_bit import LowBitLayer, int4_initializer, quantize_low_bit, round_low_bit
from nas.data.base import Split
from nas.latency.costs import compute_costs, packed_bytes
from nas.onnx_export.exporter import ExportedFile, export_onnx
from nas.onnx_export.folding import fold, module_nodes, module_of
from nas.onnx_export.parity import compute_parity
from nas.runtimes.backends.onnxruntime import RUNTIME
from nas.targets.catalog import load_target
from nas.training.execution_format import ExecutionFormat
from nas.training.loop import train
from nas.training.recipe import Recipe
from tests.random_nets import CLASSES, SHAPE, RandomNet, context_of, labels_of, pictures, trained_net

COMPRESSOR = few_bits.COMPRESSOR
BITS = st.sampled_from([1, 2, 4])


def context_for(sample: RandomNet, bits: int, *, activation_bits: int = 32) -> CompressionContext:
    units = dict.fromkeys(sample.units, activation_bits)
    settings = {f"weight_bits.{stage}": bits for stage in sample.widths}
    return context_of(units, settings=settings, widths=sample.widths, pruned=sample.widths)


def weights_of(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def exported(net: nn.Module, context: CompressionContext, folder: Path) -> tuple[nn.Module, ExportedFile]:
    graph = COMPRESSOR.rewrite_graph(fold(net, input_shape=SHAPE), context)
    return graph, export_onnx(graph, folder / "m.onnx", input_shape=SHAPE, classes=CLASSES, metadata={})


@given(st.integers(0, 1000), BITS)
def test_rounding_is_idempotent_keeps_signs_and_is_equivariant_to_scale(seed: int, bits: int) -> None:
    weight = weights_of(seed, 5, 3, 3, 3)
    levels, step = quantize_low_bit(weight, bits)
    once = round_low_bit(weight, bits)
    assert set(levels.unique().tolist()) <= {1: {-1, 1}, 2: {-1, 0, 1}, 4: set(range(-7, 8))}[bits]
    assert torch.allclose(round_low_bit(once, bits), once, rtol=1e-5)
    assert torch.equal(quantize_low_bit(once, bits)[0], levels)
    assert bool((once * weight >= 0).all())
    gain = torch.tensor([0.5, 2, -1, 3, -0.1]).reshape(5, 1, 1, 1)
    assert torch.allclose(round_low_bit(weight * gain, bits), once * gain, rtol=1e-5)
    assert step.shape == (5,)


@given(st.integers(0, 1000))
def test_four_bit_errors_are_at_most_half_a_step(seed: int) -> None:
    weight = weights_of(seed, 4, 10)
    _, step = quantize_low_bit(weight, 4)
    assert bool(((round_low_bit(weight, 4) - weight).abs() <= step[:, None] / 2 * 1.0001).all())
    assert torch.allclose(step, weight.abs().amax(1) / 7)


def test_ternary_and_binary_rounding_match_their_papers() -> None:
    weight = torch.tensor([[0.9, -0.6, 0.1, -0.05]])  # mean magnitude 0.4125, threshold 0.28875
    assert torch.allclose(round_low_bit(weight, 2), torch.tensor([[0.75, -0.75, 0, 0]]))
    assert torch.allclose(round_low_bit(weight, 1), torch.tensor([[0.4125, -0.4125, 0.4125, -0.4125]]))


@given(st.integers(0, 1000))
def test_the_binary_scale_minimises_the_squared_error(seed: int) -> None:
    weight = weights_of(seed, 1, 20)
    signs, step = quantize_low_bit(weight, 1)
    for factor in (0.9, 1.1):
        assert (weight - signs * step).norm() < (weight - signs * step * factor).norm()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_channel_of_zeros_stays_zero(bits: int) -> None:
    assert torch.equal(round_low_bit(torch.zeros(2, 5), bits), torch.zeros(2, 5))


@given(st.lists(st.integers(-8, 7), min_size=1, max_size=9))
def test_two_levels_share_a_byte(levels: list[int]) -> None:
    stored = int4_initializer("w", np.array(levels, np.int8))
    assert len(stored.raw_data) == (len(levels) + 1) // 2
    assert numpy_helper.to_array(stored).astype(int).tolist() == levels


@pytest.mark.parametrize(("space_name", "bits"), [("plain", 1), ("plain", 2), ("plain", 4), ("darts", 2)])
def test_a_net_is_trained_through_the_rounding_and_exports_the_rounded_weights(
    space_name: str, bits: int, tmp_path: Path
) -> None:
    sample = trained_net(space_name, seed=1)
    context = context_for(sample, bits)
    net = COMPRESSOR.restructure(copy.deepcopy(sample.net), context)
    images = pictures(256, seed=1)
    split = Split(images=images, labels=labels_of(images))
    losses = []
    for cycle in range(2):
        with COMPRESSOR.training(net, context) as before_step:
            curve = train(
                net, split, classes=4, epochs=1.5, recipe=Recipe(lr=3e-3, batch_size=32),
                execution=ExecutionFormat(memory_format="channels_last", precision="bf16"), seed=cycle,
                before_step=before_step,
            )  # fmt: skip
        losses.append(curve.points[-1][1])
        for name, module in net.named_modules():
            if isinstance(module, nn.Conv2d) and name.startswith("stage"):
                assert torch.allclose(round_low_bit(module.weight.detach(), bits), module.weight, rtol=1e-4)
                assert not torch.equal(module.get_buffer("full_weight"), module.weight)
    assert losses[1] < losses[0], "the second training must resume from the full-precision weights of the first"
    before = fold(net, input_shape=SHAPE)
    graph, file = exported(net, context, tmp_path)
    pixels = torch.from_numpy(pictures(100, seed=3)).float()
    with torch.no_grad():
        assert torch.allclose(before(pixels), graph(pixels), atol=1e-3)
    result = compute_parity(graph, RUNTIME.load(file.path), pictures(200, seed=3), path=file.path)
    assert result.max_difference <= 1e-4


def test_only_stages_are_low_bit_and_the_file_holds_int4(tmp_path: Path) -> None:
    sample = trained_net("plain", seed=1)
    graph, file = exported(sample.net, context_for(sample, 2), tmp_path)
    for node in module_nodes(graph):
        module = module_of(graph, node)
        if isinstance(module, nn.Conv2d | nn.Linear | LowBitLayer):
            assert isinstance(module, LowBitLayer) == str(node.target).startswith("stage")
    model = onnx.load(file.path)
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == 21
    kinds = {t.name: t.data_type for t in model.graph.initializer if t.name.endswith((".weight", "weight_levels"))}
    assert set(kinds.values()) == {TensorProto.INT4, TensorProto.FLOAT}
    assert compute_costs(file.path).params == compute_costs(_float(sample, tmp_path)).params
    assert compute_costs(file.path).nonzero_params < 0.8 * compute_costs(file.path).params


def _float(sample: RandomNet, folder: Path) -> Path:
    graph = fold(sample.net, input_shape=SHAPE)
    return export_onnx(graph, folder / "f.onnx", input_shape=SHAPE, classes=CLASSES, metadata={}).path


def test_the_file_is_about_an_eighth(tmp_path: Path) -> None:
    sample = trained_net("plain", seed=1)
    body = sum(p.numel() for n, p in sample.net.named_parameters() if n.startswith("stage") and p.ndim > 1)
    large = _float(sample, tmp_path).stat().st_size
    small = exported(sample.net, context_for(sample, 4), tmp_path)[1].size_bytes
    scales_and_nodes = 10_000
    assert 3.5 * body - scales_and_nodes < large - small <= 3.5 * body


def test_the_notes_give_the_packed_size_and_no_latency_effect() -> None:
    sample = trained_net("plain", seed=1)
    context = context_for(sample, 2)
    graph = COMPRESSOR.rewrite_graph(fold(sample.net, input_shape=SHAPE), context)
    notes = COMPRESSOR.notes(graph, context.candidate)
    assert len(notes) == len(sample.widths)
    convolutions = [m for m in sample.net.get_submodule("stage1").modules() if isinstance(m, nn.Conv2d)]
    weights, scales = sum(m.weight.numel() for m in convolutions), sum(m.out_channels for m in convolutions)
    assert f"stage1 has {weights:,} weights of 1.58 bits, {weights * 1.58496 / 8 + 4 * scales:,.0f} bytes" in notes[0]
    assert "no latency effect" in notes[0]
    assert not COMPRESSOR.notes(graph, context_of().candidate)


def test_other_runtimes_get_rounded_float_weights(tmp_path: Path) -> None:
    sample = trained_net("plain", seed=1)
    context = context_for(sample, 1)
    context = replace(context, profile=load_target("jetson"))
    _, file = exported(sample.net, context, tmp_path)
    model = onnx.load(file.path)
    assert model.opset_import[0].version == 17
    for tensor in model.graph.initializer:
        if tensor.name.startswith("stage") and tensor.name.endswith(".weight"):
            values = numpy_helper.to_array(tensor)
            assert all(len(np.unique(np.abs(channel))) == 1 for channel in values)
    assert packed_bytes(file.path) < 0.3 * packed_bytes(_float(sample, tmp_path))


def test_floats_without_int4_keep_the_opset(tmp_path: Path) -> None:
    sample = trained_net("plain", seed=1)
    assert onnx.load(_float(sample, tmp_path)).opset_import[0].version == 17


@pytest.mark.parametrize("half", [False, True])
def test_int8_stages_drop_the_gene_and_fp16_stages_keep_it(half: bool, tmp_path: Path) -> None:
    sample = trained_net("plain", seed=1)
    stages = list(sample.widths)
    bits = dict.fromkeys(sample.units, 16 if half else 32) | {stages[0]: 8}
    context = context_of(bits, widths=sample.widths, pruned=sample.widths)
    picked = {f"weight_bits.{stage}": 2 for stage in stages}
    settings = COMPRESSOR.effective_settings(picked, context.candidate)
    assert settings == {f"weight_bits.{stage}": 2 for stage in stages[1:]}
    assert not COMPRESSOR.effective_settings({**picked, **{f"zeros.{s}": 0.5 for s in stages}}, context.candidate)
    context = context_of(bits, settings=settings, widths=sample.widths, pruned=sample.widths)
    for members in ((quantize.COMPRESSOR, COMPRESSOR), (COMPRESSOR, quantize.COMPRESSOR)):
        graph = fold(sample.net, input_shape=SHAPE)
        for member in members:
            graph = member.rewrite_graph(graph, context)
        file = export_onnx(graph, tmp_path / "m.onnx", input_shape=SHAPE, classes=CLASSES, metadata={})
        result = compute_parity(graph, RUNTIME.load(file.path), pictures(200, seed=3), path=file.path)
        assert result.non_tie_agreement >= 0.99
        assert result.max_difference <= 0.05
