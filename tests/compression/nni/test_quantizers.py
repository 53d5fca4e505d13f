"""NNI's quantisers: each trains a small net, and the exported file computes what torch does."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import fx, nn
from torch.nn import functional

from nas import registry
from nas.compression.base import CompressionContext
from nas.compression.nni import adapter
from nas.compression.nni.low_bit import MAX_LEVEL, convs_before_batch_norm, nni_low_bit_training
from nas.compression.nni.quantizers import train_quantized_graph
from nas.compression.quantization.fake_quantize import FakeQuantize, PrecisionCast, QuantizedLayer
from nas.compression.quantization.low_bit import LowBitLayer
from nas.errors import TrainError
from nas.onnx_export.exporter import export_onnx
from nas.onnx_export.folding import fold
from nas.onnx_export.parity import check_parity, parity_tolerance
from nas.runtimes.backends.onnxruntime import RUNTIME
from tests.random_nets import CLASSES, SHAPE, RandomNet, context_of, labels_of, pictures, trained_net

QUANTIZE, NNI = (registry.load("compressor", name) for name in ("quantize", "nni_quantize"))


class Learner:
    """A short training that records its losses."""

    def __init__(self, *, steps: int = 12, rate: float = 1e-3) -> None:
        self.steps, self.rate = steps, rate
        self.losses: list[float] = []

    def __call__(self, net: nn.Module, before_step: Callable[[float], None] = lambda _: None) -> None:
        net.train()
        optimiser = torch.optim.AdamW(net.parameters(), lr=self.rate)
        for step in range(self.steps):
            before_step(step / self.steps)
            images = pictures(32, seed=500 + step)
            logits = net(torch.from_numpy(images).float())
            loss = functional.cross_entropy(logits, torch.from_numpy(labels_of(images)))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            self.losses.append(float(loss.detach()))
        net.eval()


def net_of(space_name: str, *, seed: int = 1) -> RandomNet:
    return trained_net(space_name, seed=seed, attention="se")


def context_with(sample: RandomNet, method: str, bits: dict[str, int], *, signed: bool = False) -> CompressionContext:
    context = context_of(bits, signed=signed, widths=sample.widths, pruned=sample.widths)
    settings = NNI.effective_settings({"nni_quantizer": method}, context.candidate)
    assert settings == {"nni_quantizer": method}
    return replace(context, candidate=replace(context.candidate, settings=settings))


def checked_file(graph: fx.GraphModule, context: CompressionContext, folder: Path) -> int:
    """Bytes of the file, after the parity gate."""
    file = export_onnx(graph, folder / "m.onnx", input_shape=SHAPE, classes=CLASSES, metadata={})
    check_parity(
        graph, RUNTIME.load(file.path), pictures(200, seed=11), path=file.path,
        max_difference=parity_tolerance(context.candidate.bits),
    )  # fmt: skip
    return file.size_bytes


def loss_of(net: nn.Module) -> float:
    images = pictures(100, seed=12)
    with torch.no_grad():
        logits = net.eval()(torch.from_numpy(images).float())
        return float(functional.cross_entropy(logits, torch.from_numpy(labels_of(images))))


def grids_of(graph: fx.GraphModule) -> dict[str, FakeQuantize]:
    return {name: module for name, module in graph.named_modules() if isinstance(module, FakeQuantize)}


@pytest.mark.parametrize(("space_name", "signed"), [("plain", False), ("plain", True), ("darts", False)])
@pytest.mark.parametrize("method", ["qat", "lsq"])
def test_int8_training_lowers_the_loss_and_the_file_agrees(
    method: str, signed: bool, space_name: str, tmp_path: Path
) -> None:
    sample, fit = net_of(space_name, seed=2), Learner(steps=8)
    stages = list(sample.widths)
    bits = dict.fromkeys(sample.units, 8) | {stages[-1]: 16}
    context = context_with(sample, method, bits, signed=signed)
    before = QUANTIZE.fine_tune(fold(sample.net, input_shape=SHAPE), context, lambda net: pytest.fail("NNI trains it"))
    kinds = {name: type(module) for name, module in before.named_modules()}
    start = {name: grid.scale for name, grid in grids_of(before).items()}

    after = NNI.fine_tune(before, context, fit)

    assert np.mean(fit.losses[-3:]) < 0.9 * fit.losses[0]
    assert {name: type(module) for name, module in after.named_modules()} == kinds
    assert any(isinstance(module, PrecisionCast) for module in after.modules())
    assert any(grid.scale != start[name] for name, grid in grids_of(after).items())
    assert all((grid.zero_point == 0) or not grid.signed for grid in grids_of(after).values())
    for groups in {grid.grid_group for grid in grids_of(after).values()}:
        members = [grid for grid in grids_of(after).values() if grid.grid_group == groups]
        assert len({(grid.scale, grid.zero_point) for grid in members}) == 1, (
            "tensors of one group must keep sharing a grid"
        )
    checked_file(after, context, tmp_path)


@pytest.mark.parametrize("method", ["qat", "lsq"])
def test_without_a_training_step_the_calibrated_grids_stay(method: str) -> None:
    """For LSQ only where the target's grids are symmetric, as its own are."""
    sample = net_of("plain")
    context = context_with(sample, method, dict.fromkeys(sample.units, 8), signed=True)
    before = QUANTIZE.rewrite_graph(fold(sample.net, input_shape=SHAPE), context)
    after = copy.deepcopy(before)
    train_quantized_graph(after, method, lambda net: None)
    for name, grid in grids_of(before).items():
        assert grids_of(after)[name].scale == pytest.approx(grid.scale, rel=1e-6)
    images = torch.from_numpy(pictures(64, seed=2)).float()
    with torch.no_grad():
        torch.testing.assert_close(after(images), before(images), atol=0.1, rtol=0)


def test_nni_computes_in_training_what_the_frozen_modules_do() -> None:
    """Checks the whole conversion: logits of NNI's wrapped graph in eval mode against those of the exported modules."""
    sample, seen = net_of("plain"), {}
    context = context_with(sample, "qat", dict.fromkeys(sample.units, 8))
    graph = QUANTIZE.rewrite_graph(fold(sample.net, input_shape=SHAPE), context)
    images = torch.from_numpy(pictures(64, seed=2)).float()

    def fit(net: nn.Module) -> None:
        Learner(steps=4)(net)
        with torch.no_grad():
            seen["logits"] = net(images)

    train_quantized_graph(graph, "qat", fit)
    with torch.no_grad():
        logits = graph(images)
    spread = float(seen["logits"].std())
    assert float((logits - seen["logits"]).abs().mean()) < 0.02 * spread, "the conversion may only round biases"
    assert (logits.argmax(1) == seen["logits"].argmax(1)).float().mean() >= 0.98


def test_zero_weights_stay_zero() -> None:
    sample = net_of("plain")
    context = context_with(sample, "qat", dict.fromkeys(sample.units, 8))
    folded = fold(sample.net, input_shape=SHAPE)
    for module in folded.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data[:, ::2] = 0
    graph = NNI.fine_tune(QUANTIZE.rewrite_graph(folded, context), context, Learner(steps=3))
    layers = [m for m in graph.modules() if isinstance(m, QuantizedLayer) and isinstance(m.layer, nn.Conv2d)]
    assert layers
    assert all(bool((layer.get_buffer("weight_levels")[:, ::2] == 0).all()) for layer in layers)


def test_a_diverged_scale_is_rejected() -> None:
    sample = net_of("plain")
    context = context_with(sample, "lsq", dict.fromkeys(sample.units, 8))
    graph = QUANTIZE.rewrite_graph(fold(sample.net, input_shape=SHAPE), context)

    def fit(net: nn.Module) -> None:
        for name, parameter in net.named_parameters():
            if "scale" in name:
                parameter.data.fill_(float("nan"))

    with pytest.raises(
        TrainError, match=r"scales must stay positive, but that of '.*' became nan; lower the learning rate"
    ):
        train_quantized_graph(graph, "lsq", fit)


@pytest.mark.parametrize("space_name", ["plain", "darts"])
@pytest.mark.parametrize("method", ["dorefa", "bnn"])
def test_low_bit_training_lowers_the_loss_and_shrinks_the_file(method: str, space_name: str, tmp_path: Path) -> None:
    sample, fit = net_of(space_name), Learner(rate=3e-3)
    context = context_with(sample, method, dict.fromkeys(sample.units, 32))
    net = copy.deepcopy(sample.net)
    plain = checked_file(fold(net, input_shape=SHAPE), context, tmp_path)
    untrained = NNI.restructure(copy.deepcopy(net), replace(context, shapes_only=True))
    with NNI.training(net, context) as before_step:
        fit(net, before_step)

    treated = [name for name in convs_before_batch_norm(net) if name.split(".")[0] in sample.widths]
    assert len(treated) > 5
    for name in treated:
        levels = net.get_submodule(name).get_parameter("weight").detach() * MAX_LEVEL[method]
        torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)
        assert float(levels.abs().max()) == pytest.approx(MAX_LEVEL[method])
    assert not any(hasattr(module, "_nni_wrapper") for module in net.modules())
    assert loss_of(net) < 0.7 * loss_of(untrained), "training must recover the loss of rounding"

    graph = NNI.rewrite_graph(fold(net, input_shape=SHAPE), context)
    assert {name for name, module in graph.named_modules() if isinstance(module, LowBitLayer)} >= set(treated)
    assert checked_file(graph, context, tmp_path) < 0.6 * plain


@pytest.mark.parametrize("method", ["dorefa", "bnn"])
def test_a_rounded_net_resumes_training_unchanged(method: str) -> None:
    net = copy.deepcopy(net_of("plain").net)
    names = convs_before_batch_norm(net)
    with nni_low_bit_training(net, names, method):
        pass
    first = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with nni_low_bit_training(net, names, method):
        pass
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(tensor, first[name])


def test_roundings_match_the_papers() -> None:
    torch.manual_seed(0)
    weight = torch.randn(6, 4, 3, 3)
    for method in ("dorefa", "bnn"):
        net = nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6))
        net[0].weight.data.copy_(weight)  # type: ignore[operator,union-attr]
        with nni_low_bit_training(net, ["0"], method):
            pass
        values = weight.double().numpy()
        share = np.tanh(values) / np.abs(np.tanh(values)).max()
        expected = np.where(values < 0, -1, 1) if method == "bnn" else 2 * np.rint((share / 2 + 0.5) * 14) / 14 - 1
        np.testing.assert_allclose(net[0].weight.detach().numpy(), expected, atol=1e-6)  # type: ignore[union-attr]


def test_only_convolutions_before_a_norm_are_rounded() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 1)
            self.d, self.n, self.m = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.BatchNorm2d(8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.d(self.c(self.m(self.b(self.n(self.a(x))))))
            return logits

    assert convs_before_batch_norm(Net()) == ("a",)


def test_an_error_in_training_unwraps_the_net() -> None:
    net = copy.deepcopy(net_of("plain").net)

    def interrupted() -> None:
        with nni_low_bit_training(net, convs_before_batch_norm(net), "bnn"):
            raise TrainError("the loss must be finite")

    with pytest.raises(TrainError):
        interrupted()
    assert not any(hasattr(module, "_nni_wrapper") for module in net.modules())


def test_nni_warnings_are_silenced_in_its_own_steps_only() -> None:
    """Once NNI or torch no longer warns, `suppress_deprecation_warnings` can be removed."""
    space = adapter.import_quantization().BNNQuantizer
    net = nn.Sequential(nn.Conv2d(1, 2, 3))
    space(net, [{"op_names": ["0"], "target_names": ["weight"], "quant_dtype": None}], None)
    loss = net(torch.rand(1, 1, 8, 8)).sum()
    with pytest.warns(DeprecationWarning, match="saved_variables"):
        loss.backward()
