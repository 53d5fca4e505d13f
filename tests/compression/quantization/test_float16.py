"""FP16 units: torch rounds where ONNX Runtime does, and values beyond float16 are rejected."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nas.compression.compressors.quantize import COMPRESSOR
from nas.compression.quantization.float16 import FLOAT16_MAX, Float16Rounding, float16_logits
from nas.errors import ExportError
from nas.onnx_export.exporter import export_onnx
from nas.onnx_export.folding import fold
from nas.onnx_export.parity import compute_parity
from nas.registry import load
from tests.random_nets import CLASSES, SHAPE, SPACES, context_of, pictures, random_net, trained_net

RUNTIME = load("runtime", "onnxruntime")


@pytest.mark.parametrize("space_name", SPACES)
@pytest.mark.parametrize("seed", range(3))
def test_int8_and_fp16_units_agree_with_the_runtime_on_every_image(space_name: str, seed: int, tmp_path: Path) -> None:
    sample = trained_net(space_name, seed=seed)
    bits = {unit: (16, 8)[(i + seed) % 2] for i, unit in enumerate(sample.units)}
    context = context_of(bits, signed=True)
    graph = COMPRESSOR.rewrite_graph(fold(sample.net, input_shape=SHAPE), context)
    path = tmp_path / "net.onnx"
    export_onnx(graph, path, input_shape=SHAPE, classes=CLASSES, metadata={})
    result = compute_parity(graph, RUNTIME.load(path), pictures(200, seed=3), path=path)
    assert result.max_difference < 0.02, "a value rounded differently moves an INT8 unit by whole levels"
    assert result.agreement >= 0.995


def test_concatenation_at_a_border_is_rounded_as_in_the_runtime(tmp_path: Path) -> None:
    sample = trained_net("darts", seed=0)
    bits = dict(zip(sample.units, (16, 16, 8, 16), strict=True))
    graph = COMPRESSOR.rewrite_graph(fold(sample.net, input_shape=SHAPE), context_of(bits, signed=True))
    assert any(isinstance(module, Float16Rounding) for module in graph.modules())
    path = tmp_path / "net.onnx"
    export_onnx(graph, path, input_shape=SHAPE, classes=CLASSES, metadata={})
    session = RUNTIME.load(path)
    assert compute_parity(graph, session, pictures(100, seed=3), path=path).max_difference < 5e-3


def test_values_beyond_float16_are_rejected_and_the_layer_is_named() -> None:
    sample = random_net("plain", seed=2)
    convolution = next(m for m in sample.net.modules() if isinstance(m, nn.Conv2d))
    with torch.no_grad():
        convolution.weight.mul_(1e8)
    with pytest.raises(ExportError, match=r"must lie within 65,504, but 'stem"):
        COMPRESSOR.rewrite_graph(
            fold(sample.net.eval(), input_shape=SHAPE), context_of(dict.fromkeys(sample.units, 16), signed=True)
        )


def test_float16_logits_are_rounded_and_finite() -> None:
    linear = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1e6]]))
    net = nn.Sequential()
    net.add_module("stem", nn.Flatten())
    net.add_module("head", linear)
    graph = fold(net.eval(), input_shape=(1, 1, 2))
    pixels = torch.tensor([[[[2049.0, 1.0]]]])
    assert float16_logits(graph, {"stem": 32, "head": 32}, pixels).tolist() == [[2049.0, 1e6]]
    assert float16_logits(graph, {"stem": 32, "head": 16}, pixels).tolist() == [[2048.0, FLOAT16_MAX]]
    assert float(np.float16(2049)) == 2048.0
