"""`nas predict`: its output and its exit status."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from nas.cli.main import app
from nas.vision.labelling import LabelSummary
from tests.shown import plain
from tests.vision.pictures import astronaut, quadrant_net, write_picture


@pytest.fixture(autouse=True)
def _trusted_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.distillation.onnx_teacher.check_in_child", lambda *_, **__: None)


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """The command on a folder with an astronaut, a wall and a torn file, which has one face."""
    root = tmp_path / "in"
    write_picture(root / "astronaut.png", astronaut())
    write_picture(root / "wall.png", np.full((99, 99, 3), 200, np.uint8))
    (root / "torn.png").write_bytes(b"torn")
    net = quadrant_net(tmp_path / "net.onnx")
    return ["predict", str(net), str(root), "--pixels", "0..255", "--min-face", "60", "--framing", "fer2013"]


def test_faces_are_counted_and_written_and_faults_are_said(run: CliRunner, words: list[str], tmp_path: Path) -> None:
    ended = run.invoke(app, [*words, "--out", str(tmp_path / "out"), "--json", str(tmp_path / "faces.jsonl")])
    assert ended.exit_code == 0, ended.output
    shown = plain(ended.stdout)
    assert "1 face in 2 frames of 2 sources; 1 frame without a face; 1 not read" in shown
    assert f"written {tmp_path / 'out'}" in shown
    said = ended.stderr.splitlines()
    assert [line.rpartition("/")[2].split(":")[0] for line in said] == ["torn.png", "wall.png"]
    (line,) = (tmp_path / "faces.jsonl").read_text().splitlines()
    assert json.loads(line)["box"][2] > 60
    assert {f.name for f in (tmp_path / "out").iterdir()} == {"astronaut.png", "wall.png"}


def test_nothing_that_can_be_read_is_status_2_and_one_line(run: CliRunner, words: list[str], tmp_path: Path) -> None:
    words[2] = str(tmp_path / "in" / "torn.png")
    ended = run.invoke(app, words)
    assert ended.exit_code == 2
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        (["--classes", "a,b"], "must have one output for each of the 2 classes a, b, but has 4"),
        (["--detector", "yunet"], "nas: detector yunet needs its file"),
        (["--show"], "nas: --show needs"),
        (["--benchmark", "--csv", "a.csv"], "nas: --benchmark writes and shows nothing"),
        (["--out", "a.png"], "nas: --out must be a folder for several pictures"),
    ],
)
def test_what_does_not_fit_is_one_line(run: CliRunner, words: list[str], more: list[str], fault: str) -> None:
    ended = run.invoke(app, [*words, *more])
    assert ended.exit_code == 2
    assert fault in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_the_benchmark_prints_the_table_of_papers_and_the_stages(
    run: CliRunner, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.vision.benchmark.WARM_UP_FRAMES", 1)
    ended = run.invoke(app, [*words, "--benchmark", "--frames", "3"])
    shown = plain(ended.stdout)
    assert ended.exit_code == 0, ended.output
    for head in ("parameters", "CPU %", "MEM %", "FPS", "median ms", "p95 ms", "detect", "classify", "whole"):
        assert head in shown
    assert "3 frames of " in shown


@pytest.mark.parametrize(("source", "status"), [("0", 0), ("in", 130)])
def test_ctrl_c_is_the_end_of_a_camera_and_an_interruption_of_files(
    run: CliRunner, monkeypatch: pytest.MonkeyPatch, source: str, status: int
) -> None:
    stopped = LabelSummary(frames=7, sources=[source], is_interrupted=True)
    monkeypatch.setattr("nas.api.prediction.label_faces", lambda *_, **__: stopped)
    ended = run.invoke(app, ["predict", "net.onnx", source])
    assert ended.exit_code == status
    assert plain(ended.stdout).rstrip().endswith("stopped")
