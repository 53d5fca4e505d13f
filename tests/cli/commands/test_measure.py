"""`nas measure` of small files on this machine."""

import re
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, load, numpy_helper, save
from typer.testing import CliRunner

from nas.api import measurement
from nas.cli.main import app
from nas.latency.costs import compute_costs
from nas.latency.latency import Latency
from nas.results.run_folder import RunFolder
from tests.fake_runs import a_model
from tests.shown import plain


def test_measure_states_kind_and_provenance(run: CliRunner, monkeypatch: pytest.MonkeyPatch, folder: RunFolder) -> None:
    monkeypatch.setattr(measurement, "IDLE_WAIT_S", 0.0)
    a_model(folder, "models/one.onnx")
    model = str(folder.path / "models/one.onnx")
    here = run.invoke(app, ["measure", model, "--runs", "50"])
    assert here.exit_code == 0, here.output
    assert re.search(r"^0\.\d+ ms \[.*\] measured on .* median of 50 runs, 1 thread", plain(here.stdout))
    board = run.invoke(app, ["measure", model, "--target", "jetson", "--runs", "50", "--threads", "1"])
    assert "predicted for Jetson" in plain(board.stdout)
    assert "measured on this machine" in plain(board.stdout)


def test_one_thread_and_several_are_measured_apart_on_pinned_cores(
    run: CliRunner, monkeypatch: pytest.MonkeyPatch, folder: RunFolder
) -> None:
    models = [str(folder.path / a_model(folder, f"models/{name}.onnx")["model"]) for name in ("one", "other")]
    measured: list[tuple[int, int]] = []

    class FakeWorker:
        def __init__(self, *, cpu_cores: tuple[int, ...], **_: object) -> None:
            self.cpu_cores = cpu_cores

        def __enter__(self) -> "FakeWorker":
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def measure(self, models: list[Path], *, threads: int = 1, **_: object) -> list[Latency]:
            measured.append((len(models), threads))
            versions = {"pinned": str(self.cpu_cores)}
            return [
                Latency(
                    kind="measured", device="d", runtime="r", latency_ms=1 / threads, low_ms=0, high_ms=1,
                    threads=threads, versions=versions,
                )
                for _ in models
            ]  # fmt: skip

    monkeypatch.setattr(measurement, "TimingWorker", FakeWorker)
    found = plain(run.invoke(app, ["measure", *models, "--threads", "4", "--pin", "0,2"]).stdout)
    assert measured == [(2, 1), (1, 4), (1, 4)], "one thread side by side, several one after the other"
    assert found.count("1 thread (pinned (0, 2))") == found.count("4 threads (pinned (0, 2))") == 2
    refused = run.invoke(app, ["measure", *models, "--pin", "first"])
    assert refused.exit_code == 2
    assert "--pin must be core numbers separated by commas, but got 'first'" in refused.stderr


def test_measure_refuses_a_file_that_is_not_a_model(run: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no model")
    for path, line in (("gone.onnx", "but there is none"), ("x.onnx", "must ")):
        found = run.invoke(app, ["measure", str(tmp_path / path)])
        assert found.exit_code == 2
        assert line in found.stderr


def weights_among_inputs(path: Path) -> str:
    """A file of IR version 3 and opset 7, as exporters before 2019 wrote it: its inputs list its weights too."""
    kernel = numpy_helper.from_array(np.ones((4, 1, 3, 3), np.float32), "kernel")
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["maps"]),
        helper.make_node("GlobalAveragePool", ["maps"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["y"]),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("kernel", [4, 1, 3, 3]), ("x", ["N", 1, 16, 16]))
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [kernel])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 7)], ir_version=3), path)
    return str(path)


def test_files_of_old_exporters_are_measured_and_predicted(
    run: CliRunner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(measurement, "IDLE_WAIT_S", 0.0)
    model = weights_among_inputs(tmp_path / "m.onnx")
    result = run.invoke(app, ["measure", model, "--target", "jetson", "--runs", "20", "--threads", "1"])
    assert result.exit_code == 0, result.output
    assert "predicted for Jetson" in plain(result.stdout)
    costs = compute_costs(Path(model))
    assert costs.macs == 4 * 9 * 14 * 14
    assert costs.params == 36


@pytest.mark.parametrize("target", ["cpu", "jetson"])
def test_a_fixed_batch_of_several_images_is_refused(run: CliRunner, tmp_path: Path, target: str) -> None:
    path = Path(weights_among_inputs(tmp_path / "m.onnx"))
    model = load(path)
    model.graph.input[1].type.tensor_type.shape.dim[0].dim_value = 8
    save(model, path)
    result = run.invoke(app, ["measure", str(path), "--target", target])
    assert result.exit_code == 2
    assert "one image at a time, but has [8, 1, 16, 16], 8 images at once" in plain(result.output)


@pytest.mark.parametrize("target", ["cpu", "jetson"])
def test_a_hostile_file_is_refused_in_one_line(run: CliRunner, tmp_path: Path, target: str) -> None:
    path = Path(weights_among_inputs(tmp_path / "m.onnx"))
    model = load(path)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = -(2**62)
    save(model, path)
    result = run.invoke(app, ["measure", str(path), "--target", target])
    assert result.exit_code == 2
    assert "'y' has a dimension of -4611686018427387904" in plain(result.output)
