"""Training of one model: whole, resumable to the same weights, and a start for what follows."""

from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import nas
import nas.searcher.worker
from nas.cli.main import app
from nas.errors import ConfigError
from nas.results.run import Run
from tests.conftest import learnable_faces
from tests.tiny_search import ASSEMBLY, make_quick

TINY: dict[str, Any] = {
    "model": "resnet8:stem_stride=2,widths=(8,16)", "epochs": 6, "target": "jetson", "dataset": "synthetic",
    "execution": "plain", "threads": 1,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ASSEMBLY, "load_data", lambda *_, **__: learnable_faces(train=96, val=24, test=12))
    make_quick(monkeypatch)


def weights(run: Run) -> torch.Tensor:
    state = torch.load(run.folder.path / "base" / "weights.pt", weights_only=True)
    return torch.cat([tensor.flatten().double() for tensor in state.values()])


def test_a_training_that_pauses_after_every_step_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = nas.train(**TINY, runs=tmp_path / "a")
    states: list[str] = []
    collect = nas.searcher.worker._collect

    def spy(folder: Path, *arguments: Any) -> Any:
        states.extend(path.name for path in folder.glob("base/checkpoints/*-state-*"))
        return collect(folder, *arguments)

    monkeypatch.setattr(nas.searcher.worker, "_collect", spy)
    monkeypatch.setattr(nas.searcher.worker, "SEGMENT_S", 0.0)
    paused = nas.train(**TINY, runs=tmp_path / "b")

    assert len(states) > 3
    assert torch.equal(weights(undisturbed), weights(paused))
    assert not list(paused.folder.path.glob("base/checkpoints/*-state-*"))
    (record,) = paused.folder.records()
    assert (record.phase, record.epochs, record.status) == ("base", 6.0, "complete")
    assert record.score == undisturbed.folder.records()[0].score
    assert record.seconds["train"] > 0


def test_the_trained_model_is_the_start_of_a_compression_with_the_same_words(tmp_path: Path) -> None:
    run = nas.train(**TINY, runs=tmp_path)
    fields = {name: value for name, value in TINY.items() if name != "epochs"}
    again = nas.compress(**fields, trials=1, verify=0, runs=tmp_path)
    assert again.folder.path == run.folder.path
    assert [record.phase for record in again.folder.records()] == ["base", "search"]


def test_a_candidate_of_a_search_is_trained_whole_with_its_channels_in_fp32(tmp_path: Path) -> None:
    searched = nas.search(
        target="jetson", space="plain", trials=5, epochs=0.5, rungs=(1,), verify=0, threads=1, runs=tmp_path
    )
    record = next(r for r in searched.folder.records() if 8 in r.candidate.bits.values() and r.params)
    fields = {name: value for name, value in TINY.items() if name != "model"}
    run = nas.train(f"{searched.folder.path}:{record.trial}", **fields | {"epochs": 1}, runs=tmp_path)
    (trained,) = run.folder.records()
    assert (trained.phase, trained.epochs, trained.macs) == ("base", 1.0, record.macs)
    assert set(trained.candidate.bits.values()) == {32}
    assert run.folder.path != searched.folder.path


def test_what_cannot_be_trained_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="epochs must be positive, but got -1"):
        nas.train("resnet8", epochs=-1)
    with pytest.raises(ConfigError, match=r"net.onnx has no source to train; give the function"):
        nas.train("net.onnx")


def test_the_command_ends_with_the_figures_of_the_model_and_how_to_export_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [
        *[
            "train",
            "--epochs",
            "1",
            "--target",
            "jetson",
            "--threads",
            "1",
            "--execution",
            "plain",
            "--name",
            "t",
            "--model",
        ],
        TINY["model"],
    ]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.output
    assert "size and speed" in found.output
    assert found.output.splitlines()[-1] == "export   nas export runs/t --trial base"
    assert "candidates" not in found.output
    exported = CliRunner().invoke(app, ["export", "runs/t", "--trial", "base", "--out", "out"])
    assert exported.exit_code == 0, exported.output
    assert (tmp_path / "out" / "model.onnx").exists()
    for refused in (["train"], ["train", "--model", "resnet8", "--epochs", "0"]):
        result = CliRunner().invoke(app, refused)
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1
