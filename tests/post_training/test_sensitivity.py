"""`nas compress --sensitivity`: every layer is changed alone, and the figures are those of a net changed by hand."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from nas.api import post_training as api
from nas.cli.main import app
from nas.config import make_config
from nas.errors import ConfigError
from nas.latency.int8_speedup import Int8Speedup
from nas.latency.latency import Latency
from nas.post_training.sensitivity import LayerSensitivity, Sensitivity
from nas.post_training.user_net import UserNet
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


def test_the_command_prints_a_table_and_writes_a_page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed = Latency(kind="measured", device="this CPU", runtime="r", latency_ms=2.0, low_ms=1.9, high_ms=2.1)
    gain = Int8Speedup(speedup=1.25, low=1.2, high=1.3, twin_ms=2.0, own_ms=1.6, kind="measured")
    layers = (
        LayerSensitivity(name="a.conv", channels=(16, 8), pruning_cost=3.5, pruning_gain=gain, int8_cost=0.25),
        LayerSensitivity(name="fc <1>", int8_cost=-0.5, int8_gain=gain),
    )
    figures = Sensitivity(
        model="m", accuracy=0.65, n_images=100, split_name="val (PublicTest)", latency=timed, layers=layers
    )
    monkeypatch.setattr(api, "_load_configured", lambda *_: (object.__new__(UserNet), nullcontext()))
    monkeypatch.setattr(api, "measure_sensitivity", lambda *_, **__: figures)
    found = CliRunner().invoke(app, f"compress --model {MODEL} --target cpu --sensitivity --out s.html".split())
    assert found.exit_code == 0, found.output
    shown = plain(found.stdout)
    assert "a.conv 16 to 8 +3.50 1.250 [1.200, 1.300] +0.25 -" in shown
    assert "fc <1> - - - -0.50 1.250 [1.200, 1.300]" in shown
    assert "accuracy: 65.00% on 100 images of val (PublicTest)" in shown
    assert "plot s.html" in shown
    page = Path("s.html").read_text()
    assert "fc &lt;1&gt;" in page
    assert "1.250 [1.200, 1.300]" in page


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
