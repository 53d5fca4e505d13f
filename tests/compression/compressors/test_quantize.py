"""Placement of quantisers and casts, and the integer kernels that ONNX Runtime makes of the result."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import fx, nn

from nas.compression.compressors.quantize import COMPRESSOR
from nas.compression.quantization.fake_quantize import FakeQuantize, PrecisionCast, QuantizedLayer
from nas.errors import ExportError
from nas.models.user_model_units import Preprocessing, split_into_stages
from nas.onnx_export.exporter import export_onnx
from nas.onnx_export.folding import fold, module_nodes, module_of, unit_name
from nas.onnx_export.parity import compute_parity
from nas.registry import load
from nas.runtimes.backends.onnxruntime import RUNTIME
from nas.targets.catalog import load_target
from tests.random_nets import CLASSES, SHAPE, SPACES, context_of, pictures, random_net, trained_net


def quantised(net: nn.Module, bits: dict[str, int], *, signed: bool = False) -> fx.GraphModule:
    graph = fold(net, input_shape=SHAPE)
    return COMPRESSOR.rewrite_graph(graph, context_of(bits, signed=signed))


def exported(graph: fx.GraphModule, folder: Path) -> Path:
    return export_onnx(graph, folder / "m.onnx", input_shape=SHAPE, classes=CLASSES, metadata={}).path


def kernels(path: Path) -> Counter[str]:
    """Names of the kernels that ONNX Runtime runs for a file."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(path.with_name("optimised.onnx"))
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.log_severity_level = 3
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(path.with_name("optimised.onnx")).graph.node)


@pytest.mark.parametrize("space_name", SPACES)
@pytest.mark.parametrize("attention", ["se", "eca"])
@pytest.mark.parametrize("signed", [False, True])
def test_the_graph_agrees_with_the_file(space_name: str, attention: str, signed: bool, tmp_path: Path) -> None:
    """On trained nets: in untrained ones a single level of a single value may change the top-1 class."""
    sample = trained_net(space_name, seed=1, attention=attention)
    graph = quantised(sample.net, dict.fromkeys(sample.units, 8), signed=signed)
    path = exported(graph, tmp_path)
    result = compute_parity(graph, RUNTIME.load(path), pictures(200, seed=3), path=path)
    assert result.agreement >= 0.99
    assert result.max_difference <= 0.05  # measured: at most 0.033


@pytest.mark.parametrize("space_name", SPACES)
@pytest.mark.parametrize("activation", ["relu", "hard_swish"])
def test_every_convolution_of_an_int8_net_runs_in_integers(space_name: str, activation: str, tmp_path: Path) -> None:
    sample = random_net(space_name, seed=3, activation=activation, attention="se")
    graph = quantised(sample.net, dict.fromkeys(sample.units, 8))
    count = kernels(exported(graph, tmp_path))
    layers = [module_of(graph, node) for node in module_nodes(graph)]
    convolutions = sum(isinstance(m, QuantizedLayer) and isinstance(m.layer, nn.Conv2d) for m in layers)
    assert count["QLinearConv"] == convolutions > 0
    assert not count["Conv"] + count["FusedConv"]
    assert count["QGemm"] == 1


def test_there_is_no_quantiser_between_a_convolution_and_its_relu() -> None:
    sample = random_net("plain", seed=4, activation="relu")
    graph = quantised(sample.net, dict.fromkeys(sample.units, 8))
    relus = [node for node in module_nodes(graph) if isinstance(module_of(graph, node), nn.ReLU)]
    assert len(relus) == sum(isinstance(m, nn.ReLU) for m in sample.net.modules()) > 0
    for node in relus:
        assert not isinstance(module_of(graph, node.all_input_nodes[0]), FakeQuantize)
        assert [type(module_of(graph, user)) for user in node.users] == [FakeQuantize]


def test_relu6_is_fused_into_the_integer_convolution(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = load("model", "mobilenet_v2").build(input_shape=SHAPE, classes=len(CLASSES), width=0.35, stem_stride=2).eval()
    units = [name for name, _ in net.named_children() if name != "prepare"]
    count = kernels(exported(quantised(net, dict.fromkeys(units, 8)), tmp_path))
    assert count["QLinearConv"] == sum(isinstance(m, nn.Conv2d) for m in net.modules())
    assert (count["QuantizeLinear"], count["DequantizeLinear"], count["Clip"]) == (1, 0, 0)


def test_only_the_requested_units_change() -> None:
    sample = random_net("plain", seed=5)
    stage = next(iter(sample.widths))
    graph = quantised(sample.net, {unit: 8 if unit == stage else 32 for unit in sample.units})
    for node in module_nodes(graph):
        unit = str(node.target).split(".")[0]
        if isinstance(module_of(graph, node), nn.Conv2d | nn.Linear | QuantizedLayer):
            assert isinstance(module_of(graph, node), QuantizedLayer) == (unit == stage)


def test_fp16_lies_between_two_casts_and_halves_the_weights(tmp_path: Path) -> None:
    sample = random_net("plain", seed=6)
    graph = quantised(sample.net, dict.fromkeys(sample.units, 16))
    casts = [m for m in graph.modules() if isinstance(m, PrecisionCast)]
    assert sorted(cast.bits for cast in casts) == [16, 32]
    path = exported(graph, tmp_path)
    weights = [t for t in onnx.load(path).graph.initializer if t.name.endswith((".weight", ".bias"))]
    assert {t.data_type for t in weights} == {onnx.TensorProto.FLOAT16}
    assert compute_parity(graph, RUNTIME.load(path), pictures(64, seed=3), path=path).max_difference < 1e-4


def test_all_precisions_mix(tmp_path: Path) -> None:
    sample = trained_net("darts", seed=1, attention="eca")
    bits = {unit: (16, 8, 32)[i % 3] for i, unit in enumerate(sample.units)}
    graph = quantised(sample.net, bits)
    path = exported(graph, tmp_path)
    result = compute_parity(graph, RUNTIME.load(path), pictures(100, seed=3), path=path)
    assert result.max_difference < 0.05
    float_graph = fold(sample.net, input_shape=SHAPE)
    with torch.no_grad():
        pixels = torch.from_numpy(pictures(100, seed=3)).float()
        same = (float_graph(pixels).argmax(1) == graph(pixels).argmax(1)).float().mean()
    assert same > 0.95, "quantised at random, not rounded"


def test_signed_activations_are_symmetric_and_concatenated_maps_share_a_grid() -> None:
    sample = random_net("darts", seed=8)
    graph = quantised(sample.net, dict.fromkeys(sample.units, 8), signed=True)
    grids = [m for m in graph.modules() if isinstance(m, FakeQuantize)]
    assert all(grid.signed and grid.zero_point == 0 for grid in grids)
    for node in module_nodes(graph):
        if str(node.target).endswith(".concat"):
            around = [module_of(graph, n) for n in (*node.all_input_nodes, *node.users)]
            assert len({grid.scale for grid in around if isinstance(grid, FakeQuantize)}) == 1


def test_the_file_is_about_a_quarter(tmp_path: Path) -> None:
    sample = random_net("plain", seed=9)
    large = exported(quantised(sample.net, dict.fromkeys(sample.units, 32)), tmp_path / "a").stat().st_size
    small = exported(quantised(sample.net, dict.fromkeys(sample.units, 8)), tmp_path / "b").stat().st_size
    weights = sum(p.numel() for p in sample.net.parameters() if p.ndim > 1)
    scales_and_nodes = 40_000  # a scale per channel, and two nodes and their names per tensor
    assert 3 * weights - scales_and_nodes < large - small <= 3 * weights


@pytest.mark.parametrize("method", ["entropy", "minmax", "percentile"])
@pytest.mark.parametrize("signed", [False, True])
def test_every_calibration_agrees_with_its_file(method: str, signed: bool, tmp_path: Path) -> None:
    sample = trained_net("plain", seed=1, attention="se")
    bits = dict.fromkeys(sample.units, 8)
    default, *others = (
        COMPRESSOR.rewrite_graph(
            fold(sample.net, input_shape=SHAPE), context_of(bits, signed=signed, settings=settings)
        )
        for settings in ({}, {"calibration": "mse"}, {"calibration": method})
    )
    scales = [[m.scale for m in graph.modules() if isinstance(m, FakeQuantize)] for graph in (default, *others)]
    assert scales[0] == scales[1] != scales[2]
    path = exported(others[1], tmp_path)
    result = compute_parity(others[1], RUNTIME.load(path), pictures(200, seed=3), path=path)
    assert result.non_tie_agreement >= 0.99
    assert result.max_difference <= 0.05


def test_calibration_is_a_setting_only_where_it_has_an_effect() -> None:
    candidate = context_of({"stem": 32, "stage1": 8, "head": 32}).candidate
    assert COMPRESSOR.effective_settings({"calibration": "entropy"}, candidate) == {"calibration": "entropy"}
    assert COMPRESSOR.effective_settings({"calibration": "mse"}, candidate) == {}
    assert COMPRESSOR.effective_settings({}, candidate) == {}
    assert COMPRESSOR.effective_settings({"calibration": "entropy"}, candidate.with_min_bits(32)) == {}


def test_for_tensorrt_every_unit_is_int8_or_fp16(tmp_path: Path) -> None:
    """No weight is left in FP32, TensorRT 8.6 reads the opset, and scales are float32."""
    genes = {c.name: c.options for c in COMPRESSOR.choices(("stage1",), load_target("jetson"))}
    assert {genes[f"bits.{unit}"] for unit in ("stem", "stage1", "head")} == {(8, 16)}
    old = {c.options for c in COMPRESSOR.choices(("stage1",), load_target("jetson-nano"))}
    assert old == {(16, 32)}, "there is no INT8 unit to calibrate"
    sample = trained_net("darts", seed=1, attention="se")
    bits = {unit: (16, 8)[i % 2] for i, unit in enumerate(sample.units)}
    graph = quantised(sample.net, bits, signed=True)
    path = exported(graph, tmp_path)
    model = onnx.load(path)
    assert model.opset_import[0].version == 17
    stored = {t.name: t.data_type for t in model.graph.initializer}
    weights = {kind for name, kind in stored.items() if name.endswith((".weight", ".bias"))}
    assert weights == {onnx.TensorProto.INT8, onnx.TensorProto.INT32, onnx.TensorProto.FLOAT16}
    assert {kind for name, kind in stored.items() if name.endswith("scale")} == {onnx.TensorProto.FLOAT}
    result = compute_parity(graph, RUNTIME.load(path), pictures(200, seed=3), path=path)
    assert result.non_tie_agreement >= 0.99
    assert result.max_difference <= 0.05


def test_calibration_on_noise_is_rejected() -> None:
    sample = random_net("plain", seed=0)
    context = context_of(dict.fromkeys(sample.units, 8))
    noise = np.random.default_rng(0).integers(0, 256, context.images.shape, dtype=np.uint8)
    with pytest.raises(ExportError, match="these are noise"):
        COMPRESSOR.rewrite_graph(fold(sample.net, input_shape=SHAPE), replace(context, images=noise))


def test_invalid_settings_are_rejected() -> None:
    graph = fold(random_net("plain", seed=0).net, input_shape=SHAPE)
    with pytest.raises(ExportError, match=r"bits must be 8, 16 or 32, but got \{'stem': 4\}"):
        COMPRESSOR.rewrite_graph(graph, context_of({"stem": 4}))
    with pytest.raises(ExportError, match=r"must name units of the net \(.*\), but got \['tail'\]"):
        COMPRESSOR.rewrite_graph(graph, context_of({"tail": 8}))
    with pytest.raises(ExportError, match="need calibration images, but got none"):
        COMPRESSOR.rewrite_graph(graph, context_of({"stem": 8}, images=0))


def test_a_softmax_over_one_element_is_one_in_integers_too(tmp_path: Path) -> None:
    """The integer kernel of ONNX Runtime 1.31 gives 0."""
    torch.manual_seed(0)
    first = nn.Conv2d(1, 8, 3, 4), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1)
    net = nn.Sequential(*first, nn.Softmax(2), nn.Conv2d(8, 8, 1), nn.Flatten(), nn.Linear(8, len(CLASSES))).eval()
    prepare = Preprocessing(size=None, mean=127.5, std=64.0, repeat=1)
    split = split_into_stages(net, prepare, input_shape=SHAPE, classes=len(CLASSES))
    graph = quantised(split, dict.fromkeys({unit_name(n) for n in module_nodes(fold(split, input_shape=SHAPE))}, 8))
    path = exported(graph, tmp_path)
    assert compute_parity(graph, RUNTIME.load(path), pictures(8, seed=3), path=path).max_difference <= 0.02
