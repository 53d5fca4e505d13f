"""`nas measure` of small files on this machine."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nas import api
from nas.cli.main import app
from nas.latency.latency import Latency
from nas.results.run_folder import RunFolder
from tests.fake_runs import a_model
from tests.shown import plain


def test_measure_states_kind_and_provenance(run: CliRunner, monkeypatch: pytest.MonkeyPatch, folder: RunFolder) -> None:
    monkeypatch.setattr(api, "IDLE_WAIT_S", 0.0)
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

    monkeypatch.setattr(api, "TimingWorker", FakeWorker)
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
