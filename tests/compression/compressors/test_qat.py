"""Quantisation-aware training: what is trained, what stays, and that the frozen graph computes what its file does."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import fx, nn

from nas.compression.compressors.quantize import COMPRESSOR
from nas.compression.quantization.fake_quantize import FakeQuantize, QuantizedLayer
from nas.compression.quantization.qat import TrainableFakeQuantize, convert_qat, prepare_qat
from nas.data.base import Split
from nas.onnx_export.exporter import export_onnx
from nas.onnx_export.folding import fold, module_nodes, module_of, trace
from nas.onnx_export.parity import compute_parity
from nas.runtimes.backends.onnxruntime import RUNTIME
from nas.training.execution_format import ExecutionFormat, choose_execution
from nas.training.loop import train
from nas.training.recipe import Recipe
from tests.random_nets import CLASSES, SHAPE, context_of, labels_of, pictures, trained_net

FORMS = [ExecutionFormat(), ExecutionFormat(memory_format="channels_last", precision="bf16")]


def quantised(space_name: str, **options: int) -> fx.GraphModule:
    sample = trained_net(space_name, seed=1, attention="se")
    bits = dict.fromkeys(sample.units, 8) | options
    return COMPRESSOR.rewrite_graph(fold(sample.net, input_shape=SHAPE), context_of(bits))


def outputs(graph: nn.Module, *, count: int = 64) -> torch.Tensor:
    with torch.no_grad():
        return graph(torch.from_numpy(pictures(count, seed=5)).float())


def fit(net: nn.Module, *, execution: ExecutionFormat = FORMS[0], lr: float = 1e-3) -> None:
    images = pictures(128, seed=1)
    recipe = Recipe(lr=lr, batch_size=32)
    train(
        net,
        Split(images=images, labels=labels_of(images)),
        classes=4,
        epochs=1,
        recipe=recipe,
        execution=execution,
        seed=0,
    )


@pytest.mark.parametrize(("space_name", "steps"), [("plain", False), ("plain", True), ("darts", False)])
def test_before_any_step_the_trainable_graph_equals_the_frozen_one(space_name: str, steps: bool) -> None:
    graph = quantised(space_name)
    before = outputs(graph)
    prepare_qat(graph, learn_scales=steps)
    with torch.no_grad():
        assert torch.allclose(
            outputs(graph), before, atol=0.05
        )  # another order of summation: a value may change its level
        assert (outputs(graph).argmax(1) == before.argmax(1)).float().mean() >= 0.98
    convert_qat(graph)
    assert torch.allclose(outputs(graph), before, atol=0.02)


@pytest.mark.parametrize("space_name", ["plain", "darts"])
@pytest.mark.parametrize(("form", "steps"), [(FORMS[0], False), (FORMS[1], True)], ids=["fp32", "bf16, learned"])
def test_the_file_computes_what_was_trained(
    space_name: str, form: ExecutionFormat, steps: bool, tmp_path: Path
) -> None:
    graph = quantised(space_name)
    prepare_qat(graph, learn_scales=steps)
    weights = [p.detach().clone() for p in graph.parameters()]
    fit(graph, execution=form)
    assert all(not torch.equal(a, b) for a, b in zip(weights, graph.parameters(), strict=True) if a.ndim > 1)
    convert_qat(graph)
    kinds = {type(module_of(graph, node)).__name__ for node in module_nodes(graph)}
    assert not [kind for kind in kinds if kind.startswith("Learned")]
    file = export_onnx(graph, tmp_path / "m.onnx", input_shape=SHAPE, classes=CLASSES, metadata={})
    result = compute_parity(graph, RUNTIME.load(file.path), pictures(200, seed=3), path=file.path)
    assert result.non_tie_agreement >= 0.99
    assert result.max_difference <= 0.05


def grids(graph: fx.GraphModule) -> dict[str, list[float]]:
    scales: dict[str, list[float]] = {}
    for module in graph.modules():
        if isinstance(module, FakeQuantize):
            scales.setdefault(module.grid_group, []).append(module.scale)
    return scales


def test_fine_tuning_trains_trainable_modules_and_returns_exportable_ones() -> None:
    sample = trained_net("plain", seed=1, attention="se")
    bits = dict.fromkeys(sample.units, 8) | {"head": 16}
    seen = []

    def record_and_fit(net: nn.Module) -> None:
        seen.append([type(m).__name__ for m in net.modules() if type(m).__name__.startswith("Trainable")])
        fit(net)

    context = context_of(bits)
    graph = COMPRESSOR.fine_tune(fold(sample.net, input_shape=SHAPE), context, record_and_fit)
    plain = COMPRESSOR.rewrite_graph(fold(sample.net, input_shape=SHAPE), context)
    assert set(seen[0]) == {"TrainableFakeQuantize", "TrainableQuantizedLayer", "TrainableCast"}
    assert [str(n.target) for n in module_nodes(graph)] == [str(n.target) for n in module_nodes(plain)]
    kinds = [[type(module_of(form, node)) for node in module_nodes(form)] for form in (graph, plain)]
    assert kinds[0] == kinds[1]
    assert grids(graph) == grids(plain), "calibrated grids must not change"
    head = graph.get_submodule("head.linear")
    assert torch.equal(head.weight, head.weight.half().float())


def test_without_int8_nothing_is_trained() -> None:
    sample = trained_net("plain", seed=1, attention="se")

    def refuse(net: nn.Module) -> None:
        raise AssertionError

    COMPRESSOR.fine_tune(fold(sample.net, input_shape=SHAPE), context_of(dict.fromkeys(sample.units, 32)), refuse)


def test_learned_scales_move_and_a_group_keeps_one_grid() -> None:
    sample = trained_net("darts", seed=1, attention="se")
    context = replace(context_of(dict.fromkeys(sample.units, 8), signed=True), learn_scales=True)
    before = grids(COMPRESSOR.rewrite_graph(fold(sample.net, input_shape=SHAPE), context))
    after = grids(COMPRESSOR.fine_tune(fold(sample.net, input_shape=SHAPE), context, fit))
    assert before.keys() == after.keys()
    assert all(len(set(scales)) == 1 for scales in after.values())
    assert any(len(scales) > 1 for scales in after.values())
    assert sum(before[group] != after[group] for group in before) > len(before) / 2


def test_zero_weights_stay_zero() -> None:
    graph = quantised("plain")
    layers = [m.layer for m in graph.modules() if isinstance(m, QuantizedLayer)]
    masks = []
    for layer in layers:
        masks.append(torch.rand(layer.weight.shape, generator=torch.Generator().manual_seed(0)) < 0.5)
        layer.weight.data *= masks[-1]
    prepare_qat(graph, learn_scales=False)
    fit(graph)
    for layer, mask in zip(layers, masks, strict=True):
        assert not layer.weight[~mask].any()
        assert layer.weight[mask].all()


@pytest.mark.parametrize("signed", [False, True])
def test_gradients_are_those_of_lsq(signed: bool) -> None:
    """Against autograd through clamp and a rounding that is skipped (LSQ, equations 3 and 5)."""
    grid = FakeQuantize(scale=0.1, zero_point=0 if signed else 100, signed=signed)
    x = torch.linspace(-14.03, 17.01, 400).reshape(2, 200).requires_grad_()
    way = torch.randn(2, 200, generator=torch.Generator().manual_seed(0))
    log_step = nn.Parameter(torch.tensor(0.1).log())
    learned = TrainableFakeQuantize(grid, log_scale=log_step)
    y = learned(x)
    assert torch.allclose(y, grid(x), atol=1e-5)
    got = torch.autograd.grad((y * way).sum(), (x, log_step))
    log_scale = torch.tensor(0.1).log().requires_grad_()
    levels = (x / log_scale.exp()).clamp(learned.low, learned.high)
    slow = (levels + (levels.round() - levels).detach()) * log_scale.exp()
    wanted = torch.autograd.grad((slow * way).sum(), (x, log_scale))
    assert torch.allclose(got[0], wanted[0])
    assert torch.allclose(got[1], wanted[1] / (200 * 127) ** 0.5, rtol=1e-3)


def test_grids_behind_a_relu6_do_not_widen() -> None:
    grid = FakeQuantize(scale=6 / 255)
    free, capped = (
        TrainableFakeQuantize(grid, log_scale=nn.Parameter(torch.tensor(-3.0)), can_widen=w) for w in (True, False)
    )
    assert free.converted().scale == pytest.approx(float(torch.tensor(-3.0).exp()))
    assert capped.converted().scale == grid.scale
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU6(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 28))
    graph = trace(nn.Sequential(net, nn.Flatten()).eval())
    bits = {"0": 8, "1": 8}
    graph = COMPRESSOR.rewrite_graph(graph, context_of(bits))
    prepare_qat(graph, learn_scales=True)
    learned = [m for m in graph.modules() if isinstance(m, TrainableFakeQuantize)]
    behind = {
        str(node.args[0].target): module_of(graph, node)
        for node in module_nodes(graph)
        if node.args[0].op == "call_module"
    }
    assert behind["0.1"].max_scale == behind["0.1"].fake_quantize.scale
    assert behind["0.3"].max_scale == float("inf")
    assert len(learned) >= 3


@pytest.mark.parametrize("steps", [False, True])
def test_the_fastest_execution_format_can_train_it(steps: bool) -> None:
    graph = quantised("plain")
    prepare_qat(graph, learn_scales=steps)
    before = [p.detach().clone() for p in graph.parameters()]
    choose_execution(graph, input_shape=SHAPE, batch_size=8, device="cpu", threads=1)
    assert all(torch.equal(a, b) for a, b in zip(before, graph.parameters(), strict=True))
