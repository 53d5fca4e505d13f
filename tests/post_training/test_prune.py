"""`nas.prune` end to end: narrower by half, with weights that load under the user's own names."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from typer.testing import CliRunner

import nas
from nas.cli.main import app
from nas.errors import ConfigError, UnknownMemberError
from tests import outside_nets as nets
from tests.post_training.conftest import FACES, MODEL
from tests.shown import plain


def test_half_of_the_channels_leave_and_the_weights_are_written(folder: Path, weights: Path) -> None:
    result = nas.prune(MODEL, weights=weights, epochs=0.5, target="cpu", out="p.onnx", threads=1)
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


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sparsity": 1.0}, ConfigError, r"--sparsity must be in \(0, 1\), but got 1"),
        ({"sparsity": 0.05}, ConfigError, "none of 16, 32 gets narrower"),
        ({"epochs": -1.0}, ConfigError, "--epochs must be 0 or more, but got -1"),
        ({"importance": "l3"}, UnknownMemberError, "importance criterion must be one of"),
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
