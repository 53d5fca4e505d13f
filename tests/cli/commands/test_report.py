"""`nas report` on runs made by hand."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from nas.api import baselines, measurement
from nas.cli.main import app
from nas.metrics import score_from_confusion
from nas.results.published_baseline import add_baselines
from tests.fake_baselines import some_baseline
from tests.fake_runs import a_run, some_record
from tests.fake_teachers import brightness_of_quadrants, expressions, in_order
from tests.shown import plain


def test_report_of_one_run_and_of_two(run: CliRunner, tmp_path: Path) -> None:
    one, two = a_run(tmp_path, name="one"), a_run(tmp_path, name="two")
    assert run.invoke(app, ["report", str(one.path)]).exit_code == 0
    assert (one.path / "report.html").exists()
    out = tmp_path / "both.html"
    found = run.invoke(app, ["report", str(one.path), str(two.path), "--out", str(out)])
    assert found.exit_code == 0
    assert out.exists()
    assert found.stdout.count("verified front") == 2


def test_a_front_shows_which_latencies_were_measured_on_a_busy_machine(run: CliRunner, tmp_path: Path) -> None:
    calm, busy = some_record(1, 0.5, 1.0), some_record(2, 0.6, 2.0)
    assert busy.latency is not None
    noted = replace(busy.latency, notes=("2 files interleaved", "busy machine: 12% longer"))
    folder = a_run(tmp_path, records=[calm, replace(busy, latency=noted)])
    found = plain(run.invoke(app, ["report", str(folder.path)]).stdout)
    assert found.count("busy machine") == 1
    assert re.search(r"trial 2: .*busy machine: 12% longer", found)
    assert "interleaved" not in found


def test_a_baseline_is_scored_and_timed_and_shown_beside_the_front(
    run: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = expressions()
    data = replace(data, val=data.train)
    monkeypatch.setattr(baselines, "load_data", lambda *_, **__: data)
    monkeypatch.setattr(measurement, "IDLE_WAIT_S", 0.0)
    base = some_record(
        -1, 0.9, 5.0, phase="base", score=score_from_confusion(20 * np.eye(7, dtype=int) + 1, data.classes)
    )
    folder = a_run(tmp_path / "runs", records=[base], model="resnet8")
    net = in_order(tmp_path / "net.onnx", data.classes)
    for words in (["--baseline", net], []):
        found = run.invoke(app, ["report", str(folder.path), *words])
        shown = plain(found.stdout)
        assert found.exit_code == 0, found.output
        assert re.search(r"published net 100.0% .* predicted ", shown)
        assert "net is not compared, because its latency is predicted for Jetson Orin Nano 8 GB" in shown
        assert "taken in the order of FER2013" in shown
        assert ("score net.onnx on the 210 images" in found.stderr) == bool(words)


@pytest.mark.parametrize("kind", ["missing", "no onnx", "classes", "order"])
def test_a_baseline_that_cannot_be_used_is_one_line(
    run: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    data = expressions()
    monkeypatch.setattr(baselines, "load_data", lambda *_, **__: data)
    folder, path = a_run(tmp_path / "runs"), tmp_path / "net.onnx"
    if kind == "no onnx":
        path.write_text("<html>")
    elif kind == "classes":
        brightness_of_quadrants(path)
    elif kind == "order":
        in_order(path, (*data.classes[3:], *data.classes[:3]))
    found = run.invoke(app, ["report", str(folder.path), "--baseline", str(path)])
    assert found.exit_code == 2
    (line,) = (line for line in found.stderr.splitlines() if line.startswith("nas: "))
    reason = {
        "missing": "does not exist", "no onnx": "must be an ONNX file", "classes": "must have the classes",
        "order": "a known order",
    }  # fmt: skip
    assert reason[kind] in line
    assert found.stderr.splitlines()[-1] == line


def test_baselines_are_compared_below_the_front(run: CliRunner, tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    add_baselines(folder, [some_baseline(0.6, 3.0), some_baseline(0.9, 0.1, name="[other]")])
    shown = plain(run.invoke(app, ["report", str(folder.path)]).stdout)
    assert "published mini 60.0%" in shown
    assert "published [other] 90.0%" in shown
    assert "Trial 1 beats mini in both accuracy and latency: +5.0 percentage points" in shown
    assert "No member of the front beats [other]" in shown
