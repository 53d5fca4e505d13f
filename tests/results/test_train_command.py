"""Command that trains a candidate whole: typed as it stands, it asks for the run's data, target and teachers."""

import shlex
from pathlib import Path

from typer.main import get_command

from nas.cli.main import app
from nas.results.train_command import train_command
from tests.fake_runs import a_run, some_record


def test_the_command_names_candidate_data_target_and_teachers(tmp_path: Path) -> None:
    record = some_record(0, 0.5, 1.0)
    folder = a_run(
        tmp_path / "a b", records=[record], dataset="fer2013", data="faces.csv", data_options={"labels": "ferplus"},
        keep_duplicates=True, teacher=("big.onnx=2", "votes"), teacher_classes=("happy", "sad"), temperature=2.0,
        crops=True, branches=True,
    )  # fmt: skip
    words = shlex.split(train_command(folder, record, epochs=86.0))
    assert words[:2] == ["nas", "train"]
    context = get_command(app).commands["train"].make_context("train", words[2:])  # type: ignore[attr-defined]
    given = {name: value for name, value in context.params.items() if value not in (None, [], ())}
    assert given == {
        "model": f"{folder.path}:{record.key[:8]}", "epochs": 86.0, "target": "jetson", "dataset": "fer2013",
        "data": Path("faces.csv"), "data_options": ["labels=ferplus"], "keep_duplicates": True,
        "teacher": ["big.onnx=2", "votes"], "teacher_classes": "happy,sad", "temperature": 2.0, "crops": True,
        "branches": True,
    }  # fmt: skip


def test_a_teacher_from_within_the_run_is_left_out(tmp_path: Path) -> None:
    record = some_record(0, 0.5, 1.0)
    folder = a_run(tmp_path, records=[record], teacher=("self",), verify=2)
    assert "--teacher" not in train_command(folder, record, epochs=10)


def test_the_protocol_of_the_run_is_named_because_other_faces_would_be_seen(tmp_path: Path) -> None:
    record = some_record(0, 0.5, 1.0)
    folder = a_run(tmp_path, records=[record], protocol="kfold:3")
    words = shlex.split(train_command(folder, record, epochs=10))
    assert words[words.index("--protocol") + 1] == "kfold:3"
