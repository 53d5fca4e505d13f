"""The pruning benchmark: nets rebuilt from their files, ways read from words, and paired differences."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks._plain_file import plain_net_of_file
from benchmarks.calibration import divergence, summary
from benchmarks.pruning_criteria import RowSettings, table
from nas.onnx_export.exporter import export_onnx
from nas.onnx_export.folding import fold
from nas.onnx_export.rewrite_check import randomised
from nas.registry import load
from tests.random_nets import pictures

SHAPE, CLASSES = (1, 32, 32), tuple("abc")
BODY = [
    {"stage": "stage1", "depth": 2, "width": 16, "block": "dense", "down": "none"},
    {"stage": "stage3", "depth": 1, "width": 24, "block": "residual", "down": "stride"},
]


@pytest.mark.parametrize("side", [32, 40])
def test_a_net_rebuilt_from_its_file_computes_the_same_and_has_the_statistics_of_the_images(
    side: int, tmp_path: Path
) -> None:
    architecture = {"stem_width": 8, "stem_stride": 2, "input_size": side, "activation": "relu", "attention": "none"}
    net = load("space", "plain").build({**architecture, "body": BODY}, input_shape=SHAPE, classes=3)
    net = randomised(net.eval())
    file = export_onnx(
        fold(net, input_shape=SHAPE), tmp_path / "net.onnx", input_shape=SHAPE, classes=CLASSES, metadata={}
    )
    images = pictures(8, seed=0, shape=SHAPE)
    rebuilt = plain_net_of_file(file.path, images, input_shape=SHAPE, classes=3)
    pixels = torch.from_numpy(images).float()
    with torch.no_grad():
        expected = net(pixels)
        scale = float(expected.abs().max())
        assert float((rebuilt(pixels) - expected).abs().max()) < 1e-4 * scale
        assert float((rebuilt.train()(pixels) - expected).abs().max()) < 1e-3 * scale


@pytest.mark.parametrize(
    ("way", "criterion", "is_peer", "is_global", "steps"),
    [
        ("l1", "l1", False, False, 1),
        ("taylor:2", "taylor", False, False, 2),
        ("tp:taylor", "taylor", True, False, 1),
        ("tp:l1:global", "l1", True, True, 1),
    ],
)
def test_a_way_names_the_criterion_the_tool_the_scope_and_the_steps(
    way: str, criterion: str, is_peer: bool, is_global: bool, steps: int
) -> None:
    settings = RowSettings(net="a", seed=0, way=way, sparsity=0.5, epochs=2.0, lr_scale=0.2)
    found = (settings.criterion, settings.is_peer, settings.is_global, settings.steps)
    assert found == (criterion, is_peer, is_global, steps)


def test_differences_are_paired_by_net_and_seed() -> None:
    accuracies = {("l1", 0): 0.5, ("l1", 1): 0.6, ("taylor", 0): 0.52, ("taylor", 1): 0.61}
    rows = [
        {"net": "a", "seed": seed, "way": way, "accuracy": value, "macs": 0.3, "after": 0.2, "latency": None}
        for (way, seed), value in accuracies.items()
    ]
    header, first, second = table(rows, ["l1", "taylor"])
    assert first[header.index("points")] == ""
    assert second[header.index("points")] == f"+1.50 +- {0.5 * math.sqrt(2) / math.sqrt(2):.2f}"  # of 2 and 1 points


def test_the_divergence_of_two_coins() -> None:
    fair, biased = np.array([[0.5, 0.5]], np.float32), np.array([[0.75, 0.25]], np.float32)
    assert divergence(fair, fair) == 0
    assert divergence(fair, biased) == pytest.approx(0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25))


def test_the_summary_counts_how_often_a_method_is_worst() -> None:
    rows = [
        {"net": net, "grid": "int8", "method": method, "float": 0.6, "accuracy": 0.59, "divergence": value}
        for net, values in (("a", (1, 2, 3, 4)), ("b", (2, 4, 1, 3)))
        for method, value in zip(("entropy", "minmax", "mse", "percentile"), values, strict=True)
    ]
    lines = summary(rows)
    assert [line.split()[2] for line in lines] == ["0", "1", "0", "1"]
    assert "times best 1.41, at most 2.00; accuracy -1.00 points" in lines[0]
