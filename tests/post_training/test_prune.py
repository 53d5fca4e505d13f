"""`nas.prune` end to end: narrower by half, with weights that load under the user's own names."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from typer.testing import CliRunner

import nas
from nas.cli.main import app
from nas.errors import BuildError, ConfigError, UnknownMemberError
from nas.latency.costs import compute_costs
from tests import outside_nets as nets
from tests.post_training.conftest import FACES, MODEL
from tests.shown import plain


def test_half_of_the_channels_leave_and_the_weights_are_written(folder: Path, weights: Path) -> None:
    result = nas.prune(MODEL, weights=weights, epochs=0.5, target="jetson", out="p.onnx", threads=1)
    assert result.after.params is not None
    assert result.before.params is not None
    assert result.after.params < 0.5 * result.before.params
    session = ort.InferenceSession("p.onnx", providers=["CPUExecutionProvider"])
    (outputs,) = session.run(None, {"image": FACES.val.images.astype(np.float32)})
    assert float((outputs.argmax(1) == FACES.val.labels).mean()) == pytest.approx(result.after.score.accuracy)
    assert result.weights == Path("p.pt")
    own, given = torch.load("p.pt", weights_only=True), nets.ResNet().state_dict()
    assert set(own) == set(given)
    assert own["layer2.0.conv1.weight"].shape == (16, 8, 3, 3)  # of [32, 16, 3, 3]


def test_without_epochs_the_most_important_channels_stay_as_they_are(folder: Path, weights: Path) -> None:
    nas.prune(MODEL, weights=weights, epochs=0, target="jetson", out="p.onnx", keep=["layer2"])
    own, given = torch.load("p.pt", weights_only=True), torch.load(weights, weights_only=True)
    assert own["layer2.0.conv2.weight"].equal(given["layer2.0.conv2.weight"])  # kept
    rows = given["layer1.0.conv1.weight"]
    assert own["layer1.0.conv1.weight"].shape[0] == 8
    kept = {tuple(row.flatten().tolist()) for row in rows}
    assert all(tuple(row.flatten().tolist()) in kept for row in own["layer1.0.conv1.weight"])


def test_the_global_scope_removes_a_share_of_the_macs_and_keeps_what_is_named(folder: Path, weights: Path) -> None:
    result = nas.prune(
        MODEL, weights=weights, epochs=0.5, sparsity=0.2, scope="global", importance="taylor", target="jetson",
        out="p.onnx", keep=["layer2"], threads=1,
    )  # fmt: skip
    assert result.before.macs is not None
    assert 0.5 * result.before.macs < compute_costs(Path("p.onnx")).macs <= 0.8 * result.before.macs
    own, given = torch.load("p.pt", weights_only=True), nets.ResNet().state_dict()
    assert own["layer2.0.conv2.weight"].shape == given["layer2.0.conv2.weight"].shape
    session = ort.InferenceSession("p.onnx", providers=["CPUExecutionProvider"])
    (outputs,) = session.run(None, {"image": FACES.val.images.astype(np.float32)})
    assert float((outputs.argmax(1) == FACES.val.labels).mean()) == pytest.approx(result.after.score.accuracy)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sparsity": 1.0}, ConfigError, r"--sparsity must be in \(0, 1\), but got 1"),
        ({"sparsity": 0.05}, ConfigError, "none of 16, 32 gets narrower"),
        ({"epochs": -1.0}, ConfigError, "--epochs must be 0 or more, but got -1"),
        ({"importance": "l3"}, UnknownMemberError, "importance criterion must be one of"),
        ({"scope": "stage"}, ConfigError, "--pruning-scope must be one of layer, global, but got 'stage'"),
        ({"scope": "global", "steps": 2}, ConfigError, "--steps must be 1 with --pruning-scope global, but got 2"),
        ({"scope": "global", "sparsity": 0.99}, BuildError, "of the MACs must be left, but with 8 channels"),
        ({"keep": ["nothing"]}, ConfigError, "'nothing' matches none of"),
    ],
)
def test_what_does_not_fit_is_refused(
    folder: Path, weights: Path, options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        nas.prune(MODEL, weights=weights, target="jetson", **options)  # type: ignore[arg-type]
    assert not list(folder.glob("*.onnx"))


def test_the_command_names_both_files(folder: Path, weights: Path) -> None:
    command = f"prune {MODEL} --weights {weights} --epochs 0 --target jetson --importance l2 --out p.onnx"
    found = CliRunner().invoke(app, command.split())
    assert found.exit_code == 0, found.output
    shown = plain(found.stdout)
    assert "50% of the channels removed by l2, 0 epochs" in shown
    assert "channels by stage 16 to 8, 32 to 16" in shown
    assert "file p.onnx weights p.pt" in shown
