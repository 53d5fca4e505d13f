"""Faces, a trained tiny net and quick timing for post-training work."""

from pathlib import Path
from typing import Any

import pytest
import torch

import nas.latency.measured.timing_loop
import nas.post_training.file_timer
import nas.training.trainer
from nas.api import post_training as api
from nas.training.execution_format import ExecutionFormat
from nas.training.loop import train
from nas.training.recipe import Recipe
from tests import outside_nets as nets
from tests.conftest import learnable_faces

FACES = learnable_faces(train=160, val=96, test=0, noise=12.0)
MODEL = "tests.outside_nets:ResNet"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small faces, few timed runs, no waiting."""
    monkeypatch.setattr(api, "load_data", lambda *_, **__: FACES)
    monkeypatch.setattr(api, "IDLE_WAIT_S", 0.0)
    for name, value in {"DRAFT_RUNS": 20, "FINAL_RUNS": 20, "MIN_DRAFT_SECONDS": 1.0, "DRAFT_SECONDS": 0.1}.items():
        monkeypatch.setattr(nas.post_training.file_timer, name, value)
    monkeypatch.setattr(nas.training.trainer, "choose_execution", lambda *_, **__: ExecutionFormat())


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of `tests.outside_nets:ResNet` that were trained on `FACES` for a second."""
    torch.manual_seed(0)
    net = nets.ResNet()
    preprocessed = torch.nn.Sequential(_Scale(), net)
    recipe = Recipe(batch_size=32, lr=8e-3)
    train(preprocessed, FACES.train, classes=3, epochs=4, recipe=recipe, execution=ExecutionFormat(), seed=0)
    path = tmp_path_factory.mktemp("weights") / "w.pt"
    torch.save(net.state_dict(), path)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


class _Scale(torch.nn.Module):
    def forward(self, x: Any) -> Any:
        return (x - 127.5) / 64
