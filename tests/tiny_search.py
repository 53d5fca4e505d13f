"""What makes a real search quick enough for a test: few timed runs, no search for the best form of training."""

import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
import optuna
import pytest
from optuna.trial import FrozenTrial

import nas.attempts
import nas.draft
import nas.finish
import nas.rounds
import nas.stopwatch
import nas.trainer
from nas.cli import main
from nas.data._base import FaceData, Images
from nas.execution import Execution
from nas.records import RunFolder
from nas.score import Floats
from nas.storage import open_storage


@dataclass(frozen=True)
class Training:
    """One call of `nas.trainer.train`."""

    epochs: float
    seed: int
    params: int
    before: dict[str, Any]


class Killed(BaseException):
    """What SIGKILL is to a test within one process: nothing catches it."""


def make_quick(monkeypatch: pytest.MonkeyPatch) -> list[Training]:
    """Make training and timing quick. Returns the list that every training is noted in."""
    for name, value in {"QUICK_RUNS": 20, "FULL_RUNS": 20, "CALM_S": 0.0, "QUICK_CALM_S": 0.0}.items():
        monkeypatch.setattr(nas.stopwatch, name, value)
    monkeypatch.setattr(nas.rounds, "WARM_UP_RUNS", 3)
    # In this process, because what is patched here does not count elsewhere; `nas.search` itself is the function.
    monkeypatch.setattr(import_module("nas.search"), "Timer", lambda **_: nullcontext())
    monkeypatch.setattr(nas.trainer, "choose_execution", lambda *_, **__: Execution())
    monkeypatch.setattr(import_module("nas.search"), "look_ahead", lambda *_, **__: None)  # nas.search is the function
    monkeypatch.setattr(os, "fsync", lambda _: None)
    done: list[Training] = []
    train = nas.trainer.train

    def noting(net: Any, *arguments: Any, epochs: float, seed: int, **more: Any) -> Any:
        before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        params = sum(p.numel() for p in net.parameters())
        done.append(Training(epochs=epochs, seed=seed, params=params, before=before))
        return train(net, *arguments, epochs=epochs, seed=seed, **more)

    monkeypatch.setattr(nas.trainer, "train", noting)
    return done


def after(calls: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, but it dies at the call after so many."""
    made: list[None] = []

    def dying(*arguments: Any, **more: Any) -> Any:
        made.append(None)
        if len(made) > calls:
            raise Killed
        return function(*arguments, **more)

    return dying


def replace_step(monkeypatch: pytest.MonkeyPatch, step: str, change: Callable[[Any], Any]) -> None:
    """Change a step of the flow by its name, `export` or `train` say, in one object for all modules that take it."""
    places = [m for m in (nas.trainer, nas.stopwatch, nas.draft, nas.finish) if hasattr(m, step)]
    changed = change(getattr(places[0], step))
    for module in places:
        monkeypatch.setattr(module, step, changed)


def session(model: Path) -> ort.InferenceSession:
    """A file as a stranger opens it."""
    onnx.checker.check_model(onnx.load(str(model)), full_check=True)
    return ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])


def probabilities(model: Path, images: Images) -> Floats:
    """What the file says of raw pixels, [N, K]."""
    found: Floats = session(model).run(["probabilities"], {"image": images.astype("float32")})[0]
    return found


def accuracy(model: Path, faces: FaceData) -> float:
    """Share of the selection split that the file gets right."""
    return float((probabilities(model, faces.val.images).argmax(1) == faces.val.labels).mean())


def trials_of(folder: RunFolder) -> list[FrozenTrial]:
    """The trials in a run's journal."""
    study = optuna.load_study(study_name=folder.config.run_name, storage=open_storage(folder.path, None))
    return study.get_trials()


def command_line() -> None:
    """The real command line, but every training in the same form: which one is fastest depends on the moment."""
    import_module("torch._dynamo")  # torch loads it with the first optimiser, which takes longer than a candidate here
    nas.trainer.choose_execution = lambda *_, **__: Execution()
    nas.attempts.MAX_DEATHS = 10**6  # tests kill it as often as they like, for which no candidate is to blame
    main()
