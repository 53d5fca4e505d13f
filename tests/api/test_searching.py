"""Published models beside a search: refused before it, scored and timed once at its end."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nas
from nas.api import baselines
from nas.data.base import FaceData
from nas.errors import ConfigError, MeasureError
from nas.latency.latency import Latency
from nas.results.published_baseline import read_baselines
from tests.fake_runs import some_latency
from tests.fake_teachers import brightness_of_quadrants, expressions, in_order
from tests.tiny_search import ASSEMBLY, TINY, make_quick


@pytest.fixture(autouse=True)
def data(monkeypatch: pytest.MonkeyPatch) -> FaceData:
    make_quick(monkeypatch)
    faces = expressions(42)
    ramp = np.arange(32, dtype=np.uint8) // 4  # constant images are no pictures
    faces = replace(faces, train=replace(faces.train, images=faces.train.images + ramp), val=faces.train)
    monkeypatch.setattr(ASSEMBLY, "load_data", lambda *_, **__: faces)
    return faces


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were timed; each takes 3 ms on the target and 1 ms here."""
    names: list[str] = []

    def measure_all(models: Sequence[Path], **_: Any) -> list[list[Latency]]:
        names.extend(path.name for path in models)
        return [[some_latency(3.0), some_latency(1.0, kind="measured")] for _ in models]

    monkeypatch.setattr(baselines, "measure_all", measure_all)
    return names


def test_a_search_ends_with_the_published_models_beside_its_front(
    tmp_path: Path, data: FaceData, timed: list[str]
) -> None:
    net = in_order(tmp_path / "net.onnx", data.classes)
    fields = {**TINY, "trials": 1, "runs": tmp_path, "baseline": [net]}
    run = nas.search(**fields)
    (found,) = read_baselines(run.folder)
    assert (found.name, found.score.accuracy, found.latency.latency_ms) == ("net", 1.0, 3.0)
    assert '"name":"published"' in (run.folder.path / "report.html").read_text()
    nas.search(**fields)
    assert timed == ["net.onnx"]
    nas.search(**{**fields, "baseline": ()})  # may change when a run is resumed, and what is known stays
    assert read_baselines(run.folder) == [found]


def test_a_training_takes_published_models_too(tmp_path: Path, data: FaceData, timed: list[str]) -> None:
    net = in_order(tmp_path / "net.onnx", data.classes)
    run = nas.train(
        "resnet8:stem_stride=2,widths=(8,16)", epochs=1, runs=tmp_path, threads=1, baseline=[net], execution="plain"
    )
    assert [baseline.name for baseline in read_baselines(run.folder)] == ["net"]


def test_a_file_that_cannot_be_compared_is_refused_before_the_search(tmp_path: Path, timed: list[str]) -> None:
    four = brightness_of_quadrants(tmp_path / "four.onnx")
    for path, message in ((tmp_path / "none.onnx", "does not exist"), (four, "must have the classes")):
        with pytest.raises(ConfigError, match=message):
            nas.search(**TINY, runs=tmp_path / "runs", baseline=[path])
    assert not (tmp_path / "runs").exists()
    assert timed == []


def test_a_file_that_cannot_be_timed_costs_its_row_alone(
    tmp_path: Path, data: FaceData, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(baselines, "measure_all", lambda models, **_: [MeasureError("the board is hot")] * len(models))
    net = in_order(tmp_path / "net.onnx", data.classes)
    run = nas.search(**{**TINY, "trials": 1}, runs=tmp_path / "runs", baseline=[net])
    assert "baselines are left out: the board is hot; `nas report" in caplog.text
    assert read_baselines(run.folder) == []
    assert (run.folder.path / "report.html").exists()
