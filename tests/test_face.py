"""The Python face: small, quick to import, found by help()."""

import pydoc
import subprocess
import sys
from pathlib import Path

import pytest

import nas
from nas.errors import ConfigError
from tests.fake_runs import a_model, a_run, some_record


def test_the_functions_stay_functions_when_modules_of_their_names_are_imported() -> None:
    code = "import nas.searcher.searcher, nas.export, nas.measure, nas; print(*map(callable, (nas.search, nas.export, nas.measure)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["True"] * 3


def test_importing_the_face_loads_nothing_heavy() -> None:
    code = "import sys, nas; print([m for m in ('torch', 'pandas', 'optuna', 'onnx', 'plotly') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_help_shows_the_whole_life() -> None:
    words = pydoc.plain(pydoc.render_doc(nas))
    for name in nas.__all__:
        assert name in words
    assert "goes on where it stopped" in words
    assert nas.__version__


def test_what_is_not_there_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = nas.nothing


def test_export_takes_a_run_a_path_or_a_folder(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "runs", records=[])
    folder.append(some_record(0, 0.5, 1.0, **a_model(folder, "models/a.onnx")))
    for i, run in enumerate((nas.load_run(folder.path), folder.path, str(folder.path), folder)):
        model = nas.export(run, out=tmp_path / str(i))
        assert model == tmp_path / str(i) / "model.onnx"
        assert model.exists()


def test_a_search_takes_a_configuration_or_fields_not_both() -> None:
    with pytest.raises(ConfigError, match="not both"):
        nas.search(nas.make_config(), target="cpu")
