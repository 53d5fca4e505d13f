"""Real searches that are fast enough for a test, and checks of the run folders that they leave."""

import csv
import hashlib
import os
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
import pytest
from optuna.trial import TrialState

import nas.evaluation.latency_evaluator
import nas.evaluation.trained
import nas.evaluation.untrained
import nas.latency.measured.timing_loop
import nas.searcher.executors.inline
import nas.searcher.executors.processes
import nas.training.trainer
from nas.data.base import FaceData, Images
from nas.metrics import Floats
from nas.results.record import Record
from nas.results.run_folder import RunFolder
from nas.training.execution_format import ExecutionFormat
from tests.conftest import learnable_faces
from tests.journal import trials_of

ASSEMBLY: Any = import_module("nas.searcher.assembly")
SEARCH: Any = import_module("nas.searcher.searcher")  # nas.search itself is the function
TINY: dict[str, Any] = {
    "target": "jetson", "space": "plain", "trials": 3, "epochs": 0.5, "rungs": (1.0,), "verify": 0, "final_epochs": 1,
    "threads": 1,
}  # fmt: skip
RUNGS = (1 / 9, 1 / 3, 1.0)
FACES = learnable_faces(train=32, val=24, test=12)


@dataclass(frozen=True)
class Training:
    """One call of `nas.training.trainer.train`."""

    epochs: float
    seed: int
    params: int
    before: dict[str, Any]


class Killed(BaseException):
    """Stands for SIGKILL in a test within one process: nothing catches it."""


def make_quick(monkeypatch: pytest.MonkeyPatch) -> list[Training]:
    """Make training and timing fast. Returns a list to which every training is appended."""
    runs = {"MAX_SEARCH_RUNS": 20, "MAX_FINAL_RUNS": 20}
    for name, value in (runs | {"FINAL_PATIENCE_S": 0.0, "SEARCH_PATIENCE_S": 0.0}).items():
        monkeypatch.setattr(nas.evaluation.latency_evaluator, name, value)
    monkeypatch.setattr(nas.latency.measured.timing_loop, "WARM_UP_RUNS", 3)
    # Steps and timing in this process, because the patches do not reach another.
    monkeypatch.setattr(nas.searcher.executors.processes, "EXECUTOR", nas.searcher.executors.inline.EXECUTOR)
    monkeypatch.setattr(nas.searcher.executors.inline, "TimingWorker", lambda **_: nullcontext())
    monkeypatch.setattr(nas.training.trainer, "choose_execution", lambda *_, **__: ExecutionFormat())
    monkeypatch.setattr(SEARCH, "probe_candidate_cost", lambda *_, **__: (step for step in ()))
    monkeypatch.setattr(os, "fsync", lambda _: None)
    trainings: list[Training] = []
    train = nas.training.trainer.train

    def recorded_train(net: Any, *arguments: Any, epochs: float, seed: int, **more: Any) -> Any:
        before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        params = sum(p.numel() for p in net.parameters())
        trainings.append(Training(epochs=epochs, seed=seed, params=params, before=before))
        return train(net, *arguments, epochs=epochs, seed=seed, **more)

    monkeypatch.setattr(nas.training.trainer, "train", recorded_train)
    return trainings


def after(calls: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, but its call after so many raises `Killed`."""
    made: list[None] = []

    def dying(*arguments: Any, **more: Any) -> Any:
        made.append(None)
        if len(made) > calls:
            raise Killed
        return function(*arguments, **more)

    return dying


def replace_step(monkeypatch: pytest.MonkeyPatch, step: str, change: Callable[[Any], Any]) -> None:
    """Replace a function of the flow, such as `export_onnx`, by one object in all modules that import it."""
    places = [
        m
        for m in (
            nas.training.trainer,
            nas.evaluation.latency_evaluator,
            nas.evaluation.untrained,
            nas.evaluation.trained,
        )
        if hasattr(m, step)
    ]
    changed = change(getattr(places[0], step))
    for module in places:
        monkeypatch.setattr(module, step, changed)


def session(model: Path) -> ort.InferenceSession:
    """ONNX Runtime's own session of a file."""
    onnx.checker.check_model(onnx.load(str(model)), full_check=True)
    return ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])


def probabilities(model: Path, images: Images) -> Floats:
    """[N, K] Class probabilities that the file gives for raw pixels."""
    found: Floats = session(model).run(["probabilities"], {"image": images.astype("float32")})[0]
    return found


def accuracy(model: Path, faces: FaceData) -> float:
    """Top-1 accuracy of the file on the selection split, 0..1."""
    return float((probabilities(model, faces.val.images).argmax(1) == faces.val.labels).mean())


def searched(folder: RunFolder) -> list[Record]:
    return [r for r in folder.records() if r.phase == "search"]


def verified(folder: RunFolder) -> list[Record]:
    return [r for r in folder.records() if r.phase == "verified"]


def rows(folder: RunFolder) -> list[dict[str, str]]:
    with (folder.path / "pareto.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def assert_whole(folder: RunFolder) -> None:
    """No candidate has two records, each record's file has its SHA-256, and every trial is finished."""
    for records in (searched(folder), verified(folder)):
        assert max(Counter(r.key for r in records).values(), default=1) == 1
    for record in folder.records():
        if record.model:
            assert hashlib.sha256((folder.path / record.model).read_bytes()).hexdigest() == record.sha256
    trials = trials_of(folder)
    assert all(t.state.is_finished() for t in trials if t.state != TrialState.WAITING)
    keys = {t.number: t.user_attrs["key"] for t in trials if "key" in t.user_attrs}
    assert {r.trial: r.key for r in searched(folder)}.items() <= keys.items()
