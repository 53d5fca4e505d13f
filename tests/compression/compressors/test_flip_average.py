"""Flip averaging: the file computes the mean of the logits of an image and its mirror image."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from nas import registry
from nas.compression.base import CompressionContext
from nas.latency.costs import compute_costs
from nas.onnx_export.exporter import export_onnx
from nas.onnx_export.folding import fold
from nas.onnx_export.parity import check_parity, parity_tolerance
from nas.runtimes.backends.onnxruntime import RUNTIME
from tests.random_nets import CLASSES, SHAPE, SPACES, context_of, pictures, random_net, trained_net

FLIP_AVERAGE, QUANTIZE = (registry.load("compressor", name) for name in ("flip_average", "quantize"))


def switched_on(context: CompressionContext) -> CompressionContext:
    return replace(context, candidate=replace(context.candidate, settings={"flip_average": "on"}))


@pytest.mark.parametrize("space_name", SPACES)
def test_the_file_averages_the_logits_of_both_images(space_name: str, tmp_path: Path) -> None:
    net, images = random_net(space_name, seed=0).net, pictures(20, seed=3)
    graph = FLIP_AVERAGE.rewrite_graph(fold(net, input_shape=SHAPE), switched_on(context_of()))
    with torch.no_grad():
        x = torch.from_numpy(images).float()
        expected = ((net(x) + net(x.flip(-1))) / 2).softmax(1).numpy()
    file = export_onnx(graph, tmp_path / "m.onnx", input_shape=SHAPE, classes=CLASSES, metadata={})
    onnx.checker.check_model(onnx.load(file.path), full_check=True)
    for n in (1, 20):
        got = RUNTIME.load(file.path).predict(images[:n])
        assert got.shape == (n, len(CLASSES))
        np.testing.assert_allclose(got, expected[:n], atol=1e-4)
    np.testing.assert_allclose(RUNTIME.load(file.path).predict(images[..., ::-1].copy()), expected, atol=1e-4)


def test_it_doubles_the_work_and_keeps_the_weights(tmp_path: Path) -> None:
    net = random_net("plain", seed=0).net
    costs = []
    for name, context in (("off", context_of()), ("on", switched_on(context_of()))):
        graph = FLIP_AVERAGE.rewrite_graph(fold(net, input_shape=SHAPE), context)
        file = export_onnx(graph, tmp_path / f"{name}.onnx", input_shape=SHAPE, classes=CLASSES, metadata={})
        costs.append(compute_costs(file.path))
    assert costs[1].params == costs[0].params
    assert costs[1].macs == 2 * costs[0].macs


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("is_last", [True, False])
def test_it_goes_with_int8(is_last: bool, signed: bool, tmp_path: Path) -> None:
    sample = trained_net("plain", seed=0)
    context = switched_on(context_of(dict.fromkeys(sample.units, 8), signed=signed, widths=sample.widths))
    graph = fold(sample.net, input_shape=SHAPE)
    for member in (QUANTIZE, FLIP_AVERAGE) if is_last else (FLIP_AVERAGE, QUANTIZE):
        graph = member.rewrite_graph(graph, context)
    file = export_onnx(graph, tmp_path / "m.onnx", input_shape=SHAPE, classes=CLASSES, metadata={})
    assert "QuantizeLinear" in {node.op_type for node in onnx.load(file.path).graph.node}
    check_parity(
        graph, RUNTIME.load(file.path), pictures(100, seed=11), path=file.path,
        max_difference=parity_tolerance(context.candidate.bits),
    )  # fmt: skip


def test_the_gene_is_off_first_and_kept_only_where_it_is_on() -> None:
    context = context_of()
    (gene,) = FLIP_AVERAGE.choices(("stage1",), context.profile)
    assert (gene.name, set(gene.options)) == ("flip_average", {"on", "off"})
    assert [list(each.values()) for each in FLIP_AVERAGE.initial_settings(("stage1",), context.profile)] == [
        ["off"],
        ["on"],
    ]
    for value, kept in (("on", {"flip_average": "on"}), ("off", {}), (None, {})):
        configuration = {} if value is None else {"flip_average": value}
        assert FLIP_AVERAGE.effective_settings(configuration, context.candidate) == kept
    graph = fold(random_net("plain", seed=0).net, input_shape=SHAPE)
    assert FLIP_AVERAGE.rewrite_graph(graph, context) is graph
    assert FLIP_AVERAGE.notes(graph, context.candidate) == ()
    assert "averaged" in FLIP_AVERAGE.notes(graph, switched_on(context).candidate)[0]
