"""`nas.quantize` of a net in torch, end to end: the file that is written is what its figures say."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from typer.testing import CliRunner

import nas
from nas.cli.main import app
from nas.errors import ConfigError
from tests.post_training.conftest import FACES, MODEL
from tests.shown import plain


def accuracy(path: Path) -> float:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (outputs,) = session.run(None, {"image": FACES.val.images.astype(np.float32)})
    return float((outputs.argmax(1) == FACES.val.labels).mean())


def integer_layers(path: Path) -> set[str]:
    """Layers whose weights are stored in int8."""
    int8 = [t.name for t in onnx.load(path).graph.initializer if t.data_type == onnx.TensorProto.INT8]
    return {name.removesuffix(".weight") for name in int8 if name.endswith(".weight")}


def test_a_quantised_net_has_the_figures_of_its_file(folder: Path, weights: Path) -> None:
    before = weights.read_bytes()
    result = nas.quantize(MODEL, weights=weights, bits="8,stem=32,head=32", target="jetson")
    assert result.path == Path("tests.outside_nets-ResNet-quantised.onnx")
    assert result.after.score.accuracy == pytest.approx(accuracy(result.path))
    assert result.before.score.accuracy > 0.6
    assert result.agreement > 0.9
    assert result.after.size_bytes == result.path.stat().st_size < result.before.size_bytes
    assert result.bits == {"stem": 32, "stage1": 8, "stage2": 8, "head": 32}
    assert {name.partition(".")[0] for name in integer_layers(result.path)} == {"stage1", "stage2"}
    assert result.after.latency.kind == "predicted"
    assert weights.read_bytes() == before


def test_by_default_units_are_narrow_where_that_is_measured_to_pay(folder: Path, weights: Path) -> None:
    result = nas.quantize(MODEL, weights=weights, out="q/out.onnx")
    assert result.path.exists()
    assert set(result.bits.values()) <= {8, 32}
    assert (8 in result.bits.values()) == bool(integer_layers(result.path))
    assert result.after.latency.kind == "measured"
    judged = sum("times as fast, measured" in note for note in result.notes)
    assert judged == len(result.bits) or any("too busy to judge units" in note for note in result.notes)


def test_float16_halves_the_file_and_keeps_what_is_pinned(folder: Path, weights: Path) -> None:
    result = nas.quantize(MODEL, weights=weights, bits="16,layer2.*=32", target="jetson", out="h.onnx")
    kinds = {t.name: t.data_type for t in onnx.load("h.onnx").graph.initializer if t.name.endswith(".weight")}
    assert {kind for name, kind in kinds.items() if "layer2" in name} == {onnx.TensorProto.FLOAT}
    assert {kind for name, kind in kinds.items() if "layer2" not in name} == {onnx.TensorProto.FLOAT16}
    assert result.after.score.accuracy == pytest.approx(result.before.score.accuracy, abs=0.02)


def test_kept_layers_stay_in_float(folder: Path, weights: Path) -> None:
    nas.quantize(MODEL, weights=weights, bits="8", keep=["layer1.0.*"], target="jetson", out="k.onnx")
    layers = integer_layers(Path("k.onnx"))
    assert layers
    assert not any("layer1.0" in name for name in layers)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "starts from trained weights, but there are none; give --weights FILE"),
        ({"bits": "3"}, "--bits must be 8, 16 or 32"),
        ({"bits": "layer7=8"}, "'layer7' matches none of"),
        ({"calibration": "best"}, "--calibration must be one of entropy, minmax, mse, percentile, but got 'best'"),
        ({"classes": ["a"]}, "--classes names the outputs of an ONNX file"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    folder: Path, weights: Path, options: dict[str, object], message: str
) -> None:
    given = {"weights": weights} if options else {}
    with pytest.raises(ConfigError, match=message) as caught:
        nas.quantize(MODEL, target="jetson", **given, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert not list(folder.glob("*.onnx"))


def test_another_calibration_gives_another_file_that_computes_what_torch_does(folder: Path, weights: Path) -> None:
    for calibration in ("mse", "percentile"):
        out = f"{calibration}.onnx"
        result = nas.quantize(MODEL, weights=weights, bits="8", calibration=calibration, target="jetson", out=out)
        assert result.agreement > 0.8
    assert Path("mse.onnx").read_bytes() != Path("percentile.onnx").read_bytes()


def test_the_command_shows_before_and_after(folder: Path, weights: Path) -> None:
    command = ["quantize", MODEL, "--weights", str(weights), "--bits", "8,stem=32", "--target", "jetson"]
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 0, found.output
    shown = plain(found.stdout)
    assert "given" in shown
    assert "8 bits: stage1, stage2, head; 32 bits: stem" in shown
    assert "both files agree on" in shown
    assert "synthetic faces" in shown
    assert "file tests.outside_nets-ResNet-quantised.onnx" in shown
