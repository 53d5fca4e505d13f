"""`nas compress --sensitivity`: every layer is changed alone, and the figures are those of a net changed by hand."""

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from nas import api
from nas.cli.main import app
from nas.config import make_config
from nas.errors import ConfigError
from tests import outside_nets as nets
from tests.post_training.conftest import FACES, MODEL
from tests.shown import plain


def accuracy(net: nets.ResNet) -> float:
    images = (torch.from_numpy(FACES.val.images).float() - 127.5) / 64
    with torch.no_grad():
        return float((net.eval()(images).argmax(1).numpy() == FACES.val.labels).mean())


def test_layers_are_changed_one_by_one_from_the_given_weights(folder: Path, weights: Path) -> None:
    config = make_config(model=MODEL, weights=weights, target="jetson", keep=["layer1.1"])
    figures, page = api.layer_sensitivity(config)
    net = nets.ResNet()
    net.load_state_dict(torch.load(weights, weights_only=True))
    assert figures.accuracy == pytest.approx(accuracy(net))
    layers = {layer.name: layer for layer in figures.layers}
    names = "conv1 layer1.0.conv1 layer1.0.conv2 layer2.0.conv1 layer2.0.conv2 layer2.0.downsample.0 fc"
    assert list(layers) == names.split()
    inner = layers["layer1.0.conv1"]
    assert inner.channels == (16, 8)
    # By hand: the eight channels of lower L1, written by conv1 and read by conv2, are silenced where they are read.
    block = net.layer1[0]
    assert isinstance(block, nets.Block)
    written, read = block.conv1.weight.abs().sum((1, 2, 3)), block.conv2.weight.abs().sum((0, 2, 3))
    scores = _relative(written) + _relative(block.bn1.weight.abs()) + _relative(read)
    with torch.no_grad():
        block.conv2.weight[:, scores.argsort()[:8]] = 0
    assert inner.pruning_cost == pytest.approx(100 * (figures.accuracy - accuracy(net)))
    assert inner.pruning_gain is not None
    assert inner.pruning_gain.speedup > 1  # predicted from fewer multiplications
    assert all(layer.int8_cost is not None for layer in figures.layers)
    assert "layer2.0.conv1" in page.read_text()


def _relative(scores: torch.Tensor) -> torch.Tensor:
    return scores.detach() / scores.detach().mean()


def test_the_command_prints_a_table_and_writes_a_page(folder: Path, weights: Path) -> None:
    command = f"compress --model {MODEL} --weights {weights} --target jetson --sensitivity --out s.html"
    found = CliRunner().invoke(app, command.split())
    assert found.exit_code == 0, found.output
    shown = plain(found.stdout)
    assert "layer2.0.conv2" in shown
    assert "plot s.html" in shown
    assert "synthetic faces" in shown
    assert "accuracy of layer" in found.stderr
    assert "<table>" in Path("s.html").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", MODEL], "starts from trained weights, but there are none"),
        (["--model", "m.onnx"], "sensitivity needs the source of a model, but m.onnx is an ONNX file"),
    ],
)
def test_what_has_no_source_or_weights_is_refused(folder: Path, options: list[str], message: str) -> None:
    found = CliRunner().invoke(app, ["compress", "--sensitivity", *options])
    assert found.exit_code == 2
    assert message in found.stderr.splitlines()[-1]


def test_out_belongs_to_post_training_work(folder: Path) -> None:
    found = CliRunner().invoke(app, ["compress", "--model", MODEL, "--out", "x"])
    assert found.exit_code == 2
    assert "--out needs --sensitivity or an ONNX model" in found.stderr


def test_layers_to_keep_need_a_model() -> None:
    with pytest.raises(ConfigError, match="keep requires a model"):
        make_config(keep=["a"])
