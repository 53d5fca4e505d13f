"""Published baselines of a run: evaluated once, remembered by digest, and refused with one line."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

import nas
from nas.api import baselines
from nas.api.baselines import evaluate_baselines
from nas.data.base import FaceData
from nas.errors import ConfigError, MeasureError
from nas.latency.latency import Latency
from nas.results.published_baseline import read_baselines
from nas.results.run_folder import RunFolder
from tests.fake_runs import a_run, some_latency
from tests.fake_teachers import brightness_of_quadrants, expressions, in_order


class Measurements:
    """Stands in for `measure_all`: predicts 3 ms and measures 1 ms, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[str], str]] = []
        self.fails = False

    def __call__(self, models: Sequence[Path], *, target: str, **_: Any) -> list[list[Latency] | MeasureError]:
        self.asked.append(([path.name for path in models], target))
        if self.fails:
            return [MeasureError("the board is hot")] * len(models)
        return [[some_latency(3.0), some_latency(1.0, kind="measured")] for _ in models]


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> FaceData:
    faces = expressions()
    faces = replace(faces, val=faces.train)
    monkeypatch.setattr(baselines, "load_data", lambda *_, **__: faces)
    return faces


@pytest.fixture
def measurements(monkeypatch: pytest.MonkeyPatch, data: FaceData) -> Measurements:
    found = Measurements()
    monkeypatch.setattr(baselines, "measure_all", found)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return a_run(tmp_path / "runs")


def a_file(path: Path, data: FaceData) -> Path:
    return Path(in_order(path, data.classes))


def test_figures_are_those_of_the_file(
    tmp_path: Path, folder: RunFolder, data: FaceData, measurements: Measurements
) -> None:
    path, lines = a_file(tmp_path / "net.onnx", data), list[str]()
    (found,) = evaluate_baselines(folder, [path], log=lines.append)
    assert (found.name, found.path, found.target) == ("net", str(path), "jetson")
    assert (found.score.accuracy, found.score.n, len(found.score.recall)) == (1.0, 210, 7)
    assert found.accuracy_split == "val (val, synthetic faces)"
    assert found.host is not None
    assert (found.latency.kind, found.latency.latency_ms, found.host.latency_ms) == ("predicted", 3.0, 1.0)
    assert (found.params, found.macs) == (0, 0)  # no layer has weights
    assert found.size_bytes == path.stat().st_size
    assert "taken in the order of FER2013" in found.notes[0]
    assert lines[0].startswith("read data set")
    assert read_baselines(folder) == [found]


def test_a_file_is_evaluated_once_until_it_changes(
    tmp_path: Path, folder: RunFolder, data: FaceData, measurements: Measurements
) -> None:
    path = a_file(tmp_path / "net.onnx", data)
    first = evaluate_baselines(folder, [path, path])
    assert evaluate_baselines(folder, [str(path)]) == first
    assert len(measurements.asked) == 1
    moved = path.rename(tmp_path / "other.onnx")
    (found,) = evaluate_baselines(folder, [moved])
    assert (found.name, found.score, len(measurements.asked)) == ("other", first[0].score, 1)
    model = onnx.load(moved)
    model.doc_string = "changed"
    onnx.save(model, moved)
    (changed,) = evaluate_baselines(folder, [moved])
    assert measurements.asked == [(["net.onnx"], "jetson"), (["other.onnx"], "jetson")]
    assert changed.sha256 != found.sha256
    assert [baseline.sha256 for baseline in read_baselines(folder)] == [changed.sha256]


def test_weights_in_other_files_count(
    tmp_path: Path, folder: RunFolder, data: FaceData, measurements: Measurements
) -> None:
    path = tmp_path / "big" / "model.onnx"
    path.parent.mkdir()
    model = onnx.load(a_file(tmp_path / "net.onnx", data))
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (found,) = evaluate_baselines(folder, [path])
    assert found.name == "big"
    assert found.size_bytes == path.stat().st_size + (path.parent / "weights.bin").stat().st_size


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.onnx", None, r"baseline .*missing.onnx does not exist; give the path of an ONNX file"),
        ("net.pt", b"x", r"a baseline must be an .onnx file, but got .*net.pt"),
        ("text.onnx", b"no model", r"text.onnx must be an ONNX file, but cannot be read as one"),
        ("empty.onnx", b"", r"empty.onnx must be an ONNX file, but cannot be read as one: it is empty"),
    ],
)
def test_what_is_no_onnx_file_is_refused_before_the_data_are_read(
    tmp_path: Path, folder: RunFolder, measurements: Measurements, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    lines: list[str] = []
    with pytest.raises(ConfigError, match=message):
        evaluate_baselines(folder, [tmp_path / name], log=lines.append)
    assert (lines, measurements.asked) == ([], [])
    assert not (folder.path / "baselines.json").exists()


def test_other_classes_are_refused_before_anything_is_timed(
    tmp_path: Path, folder: RunFolder, measurements: Measurements
) -> None:
    with pytest.raises(ConfigError, match=r"baseline four\.onnx must have the classes"):
        evaluate_baselines(folder, [brightness_of_quadrants(tmp_path / "four.onnx")])
    assert measurements.asked == []


def test_a_board_that_gives_no_latency_is_an_error(
    tmp_path: Path, folder: RunFolder, data: FaceData, measurements: Measurements
) -> None:
    measurements.fails = True
    with pytest.raises(MeasureError, match="the board is hot"):
        evaluate_baselines(folder, [a_file(tmp_path / "net.onnx", data)])


def test_other_data_than_those_of_the_run_are_refused(
    tmp_path: Path, folder: RunFolder, data: FaceData, measurements: Measurements
) -> None:
    folder.write("data.json", json.dumps({"name": "a", "digest": "12" * 32}))
    with pytest.raises(ConfigError, match=r"the data of .* must be those of its search, but synthetic has changed"):
        evaluate_baselines(folder, [a_file(tmp_path / "net.onnx", data)])
    folder.write("data.json", json.dumps({"name": "a", "digest": data.digest}))
    assert evaluate_baselines(folder, [a_file(tmp_path / "net.onnx", data)])


def test_a_report_shows_baselines_again_without_naming_them(
    tmp_path: Path, folder: RunFolder, data: FaceData, measurements: Measurements
) -> None:
    path = a_file(tmp_path / "net.onnx", data)
    folder.write("records.jsonl", "")
    nas.report(folder, baselines=[path])
    assert nas.report(folder) == folder.path / "report.html"
    html = (folder.path / "report.html").read_text()
    assert '"name":"published"' in html
    assert len(measurements.asked) == 1
    other = a_run(tmp_path / "runs", name="other", records=[])
    both = nas.report(folder, other, baselines=[path], out=tmp_path / "both.html")
    assert '"name":"published, other"' in both.read_text()
    with pytest.raises(ConfigError, match="a report needs at least one run"):
        nas.report(baselines=[path])
