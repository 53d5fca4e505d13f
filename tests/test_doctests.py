"""Examples in docstrings, run as they stand in a folder with a finished run and an ONNX file."""

import doctest
import shutil
from importlib import import_module
from pathlib import Path

import numpy as np
import optuna
import pytest

import nas
from tests.fake_runs import a_model, a_run, a_search, some_record
from tests.vision.pictures import astronaut, write_picture

MODULES = (
    "docs.generated.attributes",
    "docs.generated.markdown",
    "docs.generated.member_page",
    "docs.generated.remote_content",
    "nas.api.measurement",
    "nas.api.post_training",
    "nas.api.prediction",
    "nas.api.runs",
    "nas.api.searching",
    "nas.config.reading",
    "nas.config.search_config",
    "nas.config.units",
    "nas.errors",
    "nas.files",
    "nas.intervals",
    "nas.metrics",
    "nas.models.layer_patterns",
    "nas.pareto",
    "nas.post_training.bits",
    "nas.registry",
    "nas.results.run",
    "nas.searcher.samplers.screened",
)
OPTIONS = doctest.IGNORE_EXCEPTION_DETAIL | doctest.NORMALIZE_WHITESPACE


def examples_of(name: str) -> list[doctest.DocTest]:
    """The docstrings of a module that hold examples."""
    module = import_module(name)
    known = {**vars(module), "nas": nas, "np": np, "optuna": optuna}
    return [test for test in doctest.DocTestFinder().find(module, name, extraglobs=known) if test.examples]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: runs/synthetic-plain-jetson, whose trial 8 can be exported, model.onnx, and photo.png."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nas.api.measurement.IDLE_WAIT_S", 0.0)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    run = a_run(Path("runs"), records=a_search())
    run.append(some_record(8, 0.1, 50.0, **a_model(run, "models/8.onnx")))
    shutil.copy(run.path / "models/8.onnx", "model.onnx")
    write_picture(tmp_path / "photo.png", astronaut())
    return tmp_path


@pytest.mark.parametrize("test", [test for name in MODULES for test in examples_of(name)], ids=lambda test: test.name)
def test_an_example_gives_what_it_says(test: doctest.DocTest, folder: Path) -> None:
    lines: list[str] = []
    result = doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=lines.append)
    assert result.failed == 0, "".join(lines)


@pytest.mark.parametrize("name", nas.__all__)
def test_every_public_name_has_an_example(name: str) -> None:
    member = getattr(nas, name)
    assert any(test.name.split(".")[-1] == name for test in examples_of(member.__module__)), name
    assert member.__module__ in MODULES
