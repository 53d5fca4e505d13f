"""`nas measure` of small files on this machine."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
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

        def measure(
            self, models: list[Path], *, threads: int = 1, batches: Sequence[int] = (), **_: object
        ) -> list[Latency]:
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
    measured.clear()
    found = plain(run.invoke(app, ["measure", *models, "--threads", "2", "--batch", "1,8"]).stdout)
    assert measured == [(4, 1), (1, 2), (1, 2), (1, 2), (1, 2)]
    refused = run.invoke(app, ["measure", *models, "--pin", "first"])
    assert refused.exit_code == 2
    assert "--pin must be core numbers separated by commas, but got 'first'" in refused.stderr


def test_batches_show_images_a_second_and_the_memory_of_the_file(
    run: CliRunner, monkeypatch: pytest.MonkeyPatch, folder: RunFolder
) -> None:
    monkeypatch.setattr(measurement, "IDLE_WAIT_S", 0.0)
    model = str(folder.path / a_model(folder, "models/one.onnx")["model"])
    found = run.invoke(app, ["measure", model, "--runs", "10", "--threads", "1", "--batch", "1,4"])
    assert found.exit_code == 0, found.output
    told = plain(found.stdout)
    assert "measured for 4 images at once on this machine's CPU" in told
    rows = re.findall(r"(?<= )(\d+) 1 ([\d.]+) \[[\d., ]+\] ([\d,]+) \[[\d,]+, [\d,]+\] ([\d.]+) ", told)
    assert [row[0] for row in rows] == ["1", "4"]
    for batch, ms, images, ms_an_image in rows:
        assert float(ms_an_image) == pytest.approx(float(ms) / int(batch), rel=0.01)
        assert float(images.replace(",", "")) == pytest.approx(1000 * int(batch) / float(ms), rel=0.01)
    # 64 pixels and 64 x 3 weights of 4 bytes; the products and the probabilities of 3 classes.
    assert "memory 1.0 kB by the graph, without the runtime: 0.8 kB of weights, and 0.3 kB of activations" in told


@pytest.mark.parametrize(
    ("fixed", "batch", "line"),
    [
        (8, "1,16", "runs 8 images at once, fixed in the file, so batch must contain 8, but got 1, 16"),
        (0, "0", "batch must be numbers of images, 1 or more, but got 0"),
        (0, "some", "--batch must be numbers of images separated by commas, but got 'some'; try 1,8,32"),
    ],
)
def test_a_batch_that_cannot_be_run_is_refused(
    run: CliRunner, tmp_path: Path, fixed: int, batch: str, line: str
) -> None:
    result = run.invoke(app, ["measure", fixed_batch(tmp_path / "m.onnx", fixed), "--batch", batch])
    assert result.exit_code == 2
    assert line in plain(result.output)


def test_a_fixed_batch_is_measured_alone_and_says_what_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measurement, "IDLE_WAIT_S", 0.0)
    (found,) = measurement.measure(fixed_batch(tmp_path / "m.onnx", 8), batch=(1, 8, 16), runs=5)
    assert found.batch == 8
    assert "batch 1, 16 left out: the file runs 8 images at once" in found.notes


def fixed_batch(path: Path, batch: int) -> str:
    """A file of one convolution whose number of images is fixed; 0 leaves it open."""
    model = load(weights_among_inputs(path))
    if batch:
        model.graph.input[1].type.tensor_type.shape.dim[0].dim_value = batch
        model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = batch
    save(model, path)
    return str(path)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--runtime", "onnxruntime_cuda"], "cannot be measured here: onnxruntime has no CUDAExecutionProvider here"),
        (["--target", "cuda-onnxruntime-tensorrt"], "for a CUDA device with TensorRT: pip install onnxruntime-gpu"),
        (["--runtime", "onnxruntime_cuda", "--explain"], "pip install onnxruntime-gpu"),
        (["--runtime", "trtexec_ssh"], "runtime must be one of onnxruntime, tensorrt, onnxruntime_cuda"),
        (["--runtime", "onnxruntime", "--target", "jetson"], "--runtime is for a target that is this machine"),
    ],
)
def test_a_runtime_that_is_not_here_is_one_line(
    run: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], line: str
) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    result = run.invoke(app, ["measure", fixed_batch(tmp_path / "m.onnx", 0), *words])
    assert result.exit_code == 2
    assert line in plain(result.output)
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_named_runtime_times_the_file(run: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def measure(self: object, models: list[Path], *, runtime: str, device: str, **_: object) -> list[Latency]:
        asked.append(f"{runtime} on {device}")
        return [Latency(kind="measured", device=device, runtime=runtime, latency_ms=1, low_ms=1, high_ms=1)]

    monkeypatch.setattr(measurement.TimingWorker, "measure", measure)
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    model = fixed_batch(tmp_path / "m.onnx", 0)
    for words in (["--runtime", "onnxruntime_cuda"], ["--target", "cuda-onnxruntime"], ["--runtime", "onnxruntime"]):
        assert run.invoke(app, ["measure", model, "--threads", "1", *words]).exit_code == 0
    assert asked[0] == "onnxruntime_cuda on this machine by onnxruntime_cuda"
    assert asked[1] == "onnxruntime_cuda on this machine's NVIDIA GPU, ONNX Runtime with CUDA"
    assert asked[2].startswith("onnxruntime on this machine's CPU")


def test_explain_shows_operators_and_what_a_prediction_adds_up(
    run: CliRunner, monkeypatch: pytest.MonkeyPatch, folder: RunFolder
) -> None:
    monkeypatch.setattr(measurement, "IDLE_WAIT_S", 0.0)
    model = str(folder.path / a_model(folder, "models/one.onnx")["model"])
    found = run.invoke(app, ["measure", model, "--target", "jetson", "--runs", "5", "--threads", "1", "--explain"])
    assert found.exit_code == 0, found.output
    told = plain(found.stdout)
    assert "one.onnx, predicted for Jetson Orin Nano 8 GB" in told
    assert re.search(r" linear kernels 0\.\d{4} \d+\.\d% 1; longest", told)
    assert "a prediction holds no copies between host and GPU" in told
    assert re.search(r" (Gemm|MatMul) \d\.\d{4} \d+\.\d% 1 node ", told)
    assert told.count("left out: the camera") == 2


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
