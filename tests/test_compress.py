"""`nas compress` end to end on synthetic spots: a user-defined model, its baseline, its candidates, and refusals."""

import csv
import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import nas
from nas.cli.main import app
from nas.config import COMPRESS_EPOCHS, make_config
from nas.errors import ConfigError, ExportError
from nas.results.compression_effect import find_baseline
from nas.results.run_folder import RunFolder
from nas.searcher.searcher import search
from tests import outside_nets as nets
from tests.conftest import learnable_faces
from tests.journal import trials_of
from tests.tiny_search import ASSEMBLY, Killed, Training, accuracy, after, make_quick, replace_step

BASE: Any = import_module("nas.searcher.baseline")
FACES = learnable_faces(train=32, val=24, test=12)
TINY: dict[str, Any] = {
    "model": "tests.outside_nets:Functional", "target": "jetson", "trials": 3, "epochs": 0.5, "rungs": (1.0,),
    "verify": 1, "final_epochs": 1, "threads": 1,
}  # fmt: skip
FACTORY = """
from torch import nn

def build(num_classes):
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, num_classes),
    )
"""


@pytest.fixture(autouse=True)
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[Training]:
    monkeypatch.setattr(ASSEMBLY, "load_data", lambda *_, **__: FACES)
    return make_quick(monkeypatch)


@pytest.fixture
def go(tmp_path: Path) -> Callable[..., RunFolder]:
    """A tiny compression below the test's own folder: `go(**fields that differ from TINY)`."""
    return lambda **fields: search(make_config(**({"runs": tmp_path} | TINY | fields)))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A state dict of `tests.outside_nets:Functional`."""
    torch.manual_seed(7)
    torch.save(nets.Functional().state_dict(), tmp_path / "w.pt")
    return tmp_path / "w.pt"


def test_a_user_defined_factory_through_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_nets_of_a_test.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    flags = "--dataset synthetic --target jetson --trials 3 --epochs 0.5 --rungs 1 --verify 1 --final-epochs 1"
    command = ["compress", "--model", "my_nets_of_a_test:build", *flags.split(), "--threads", "1"]
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 0, found.output
    folder = RunFolder.open_existing(tmp_path / "runs" / "synthetic-my_nets_of_a_test-build-jetson")
    base, *others = folder.records()
    assert (base.trial, base.phase, base.status, base.candidate.sparsity) == (-1, "base", "complete", 0.0)
    assert set(base.candidate.bits.values()) == {32}
    assert base.test is not None
    assert {r.phase for r in others} == {"search", "verified"}
    for record in (base, *others):
        if record.score is not None:
            assert accuracy(folder.path / record.model, FACES) == pytest.approx(record.score.accuracy)

    lines = [line.split() for line in found.output.splitlines()]
    front = lines[next(i for i, words in enumerate(lines) if words[:2] == ["trial", "accuracy"]) + 1 :]
    assert front[0][0] == "base"
    assert "recall by class, and its change in percentage points against the uncompressed model" in found.output
    with (folder.path / "pareto.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [rows[0]["phase"], rows[0]["trial"], rows[0]["compression_ratio"]] == ["base", "-1", "1.0"]
    assert all(float(row["size_ratio"]) > 0 for row in rows[1:])
    assert json.loads((folder.path / "pareto.json").read_text())["base"]["phase"] == "base"
    report = (folder.path / "report.html").read_text()
    assert "Recall lost to compression" in report
    assert "uncompressed" in report


def test_a_model_without_weights_is_trained_first_and_all_candidates_start_from_it(
    go: Callable[..., RunFolder], trainings: list[Training]
) -> None:
    folder = go(final_epochs=2, rungs=(0.5, 1.0), epochs=0.5, verify=0)
    state = torch.load(folder.path / "base" / "weights.pt", weights_only=True)
    base = find_baseline(folder.records())
    assert base is not None
    assert (base.epochs, [t.epochs for t in trainings[:2]]) == (2.0, [2.0, 0.25])
    full = sum(p.numel() for p in nets.Functional().parameters())
    assert trainings[0].params == full
    begun = [t for t in trainings[1:] if t.params == full]
    assert begun
    for name, tensor in begun[0].before.items():
        torch.testing.assert_close(tensor, state[name])


def test_given_weights_are_evaluated_as_they_are_with_a_warning_at_chance_accuracy(
    go: Callable[..., RunFolder], trainings: list[Training], weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = go(weights=weights, trials=1, verify=0)
    base = find_baseline(folder.records())
    assert base is not None
    assert base.epochs == 0.0
    assert len(trainings) == 1
    assert "in the order angry, happy, sad, and --mean, --std and --input-size must be" in caplog.text
    net = nets.Functional().eval()
    net.load_state_dict(torch.load(weights, weights_only=True))
    with torch.inference_mode():
        said = net((torch.from_numpy(FACES.val.images).float() - 127.5) / 64).argmax(1).numpy()
    assert accuracy(folder.path / base.model, FACES) == pytest.approx(float((said == FACES.val.labels).mean()))


def test_a_candidate_is_pruned_in_steps_without_training_the_full_model_first(
    go: Callable[..., RunFolder], trainings: list[Training], weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ASSEMBLY, "load", _always(ASSEMBLY.load, "sparsity.stage1", 0.75))
    folder = go(weights=weights, trials=1, verify=0, epochs=1.0, prune_steps=2, compressors=("prune_structured",))
    (record,) = [r for r in folder.records() if r.phase == "search"]
    assert record.candidate.pruned["stage1"] < record.candidate.widths["stage1"]
    full = sum(p.numel() for p in nets.Functional().parameters())
    assert all(t.params < full for t in trainings)
    assert sum(t.epochs for t in trainings) == pytest.approx(1.0)


def _always(load: Callable[[str, str], Any], gene: str, value: float) -> Callable[[str, str], Any]:
    """The registry's `load`, whose pruner proposes only this value of a gene first."""

    def loaded(family: str, name: str) -> Any:
        member = load(family, name)
        if family == "compressor":
            member = type(member)()
            member.initial_settings = lambda stages, profile: ({f"sparsity.{s}": value for s in stages},)
        return member

    return loaded


@pytest.mark.parametrize(
    ("module", "name", "calls"),
    [
        ("searcher.baseline", "evaluate_baseline", 0),
        ("training.trainer", "train", 0),
        ("training.trainer", "train", 2),
    ],
)
def test_a_killed_compression_resumes_and_ends_with_the_same_records(
    go: Callable[..., RunFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str, calls: int
) -> None:
    fields: dict[str, Any] = {"rungs": (0.5, 1.0), "trials": 2, "verify": 0}
    whole = go(runs=tmp_path / "whole", **fields)
    place = import_module(f"nas.{module}")
    with monkeypatch.context() as patch:
        patch.setattr(place, name, after(calls, getattr(place, name)))
        with pytest.raises(Killed):
            go(**fields)
    resumed = go(**fields)
    assert [(r.phase, r.trial, r.key, r.sha256) for r in resumed.records()] == [
        (r.phase, r.trial, r.key, r.sha256) for r in whole.records()
    ]
    assert len([t for t in trials_of(resumed) if t.state.is_finished()]) == len(
        [t for t in trials_of(whole) if t.state.is_finished()]
    )


def test_other_weights_in_the_same_run_are_refused(go: Callable[..., RunFolder], weights: Path) -> None:
    go(weights=weights, trials=1, verify=0)
    torch.save(nets.Functional().state_dict(), weights)
    with pytest.raises(ConfigError, match=r"started with weights of digest .*, but now there are weights of digest"):
        go(weights=weights, trials=2, verify=0)
    with pytest.raises(ConfigError, match=r"but now there are no weights; give this run a --name"):
        go(trials=2, verify=0)


def test_a_model_that_cannot_be_exported_is_refused_before_any_training(
    go: Callable[..., RunFolder], trainings: list[Training], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: Any, **__: Any) -> Any:
        raise ExportError("a net must use layers with an ONNX form, but 'stage1.x' is a Fold")

    replace_step(monkeypatch, "export_onnx", lambda _: refuses)
    with pytest.raises(
        ConfigError, match=r"tests.outside_nets:Functional cannot be compressed: .*'stage1.x' is a Fold"
    ):
        go()
    assert trainings == []


def test_a_model_that_cannot_be_traced_leaves_no_run_folder(go: Callable[..., RunFolder], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be compressed: .*Branching is not: symbolically traced"):
        go(model="tests.outside_nets:Branching")
    assert not list(tmp_path.iterdir())


def test_without_weights_there_must_be_epochs_and_time(go: Callable[..., RunFolder], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="trained first, but --final-epochs is 0; give one of the two"):
        go(final_epochs=0)
    with pytest.raises(ConfigError, match="no time to train the model; raise --budget or give --weights"):
        go(runs=tmp_path / "short", budget=1e-6)


def test_the_baseline_is_exported_by_its_name(go: Callable[..., RunFolder], tmp_path: Path, weights: Path) -> None:
    folder = go(weights=weights, trials=1, verify=0)
    model = nas.export(folder, "base", out=tmp_path / "out")
    assert json.loads((tmp_path / "out" / "record.json").read_text())["phase"] == "base"
    assert accuracy(model, FACES) == pytest.approx(find_baseline(folder.records()).score.accuracy)  # type: ignore[union-attr]


def test_nas_compress_of_python_is_the_same_flow(tmp_path: Path, weights: Path) -> None:
    fields = {name: value for name, value in TINY.items() if name != "model"} | {"trials": 1, "verify": 0}
    run = nas.compress(TINY["model"], weights=weights, runs=tmp_path, **fields)
    assert run.baseline is not None
    assert run.config.search.model == TINY["model"]
    assert run.records.iloc[0]["phase"] == "base"


def test_a_model_has_fewer_default_epochs_and_compress_requires_one() -> None:
    assert make_config(model="resnet8").training.epochs == COMPRESS_EPOCHS < make_config().training.epochs
    assert make_config(model="resnet8", epochs=5).training.epochs == 5
    with pytest.raises(ConfigError, match="weights requires a model, but none is given"):
        make_config(weights="w.pt")
    found = CliRunner().invoke(app, ["compress"])
    assert found.exit_code == 2
    assert "give --model NAME or --model package.module:function" in found.output
