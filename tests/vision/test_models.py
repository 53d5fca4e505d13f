"""Models by their words: files, folders, runs and reference networks."""

from pathlib import Path

import pytest

from nas.errors import ConfigError
from nas.vision import models
from nas.vision.models import find_model, reference_models


def never(run: Path) -> Path:
    raise AssertionError(f"{run} is no run")


def test_reference_networks_are_found_by_their_names_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_model("resnet-56k", pick_file=never).parts[-3:] == ("fer2013-front", "resnet-56k", "model-int8.onnx")
    assert set(reference_models()) == {"plain-945k", "resnet-256k", "resnet-56k"}


def test_files_exported_folders_and_runs_are_found(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    file = tmp_path / "export" / "model.onnx"
    file.touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.toml").touch()
    assert find_model(file, pick_file=never) == file
    assert find_model(str(file.parent), pick_file=never) == file
    assert find_model(tmp_path / "run", pick_file=lambda run: run / "models" / "7.onnx").name == "7.onnx"


def test_an_unknown_word_lists_the_networks_and_the_nearest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"resnet-56 does not exist.*plain-945k, .*did you mean 'resnet-56k'"):
        find_model("resnet-56", pick_file=never)
    with pytest.raises(ConfigError, match=r"holds no model.onnx; check the path"):
        find_model(tmp_path, pick_file=never)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(models, "REFERENCE_FRONT", Path("elsewhere"))
    with pytest.raises(ConfigError, match=r"of the project's repository, given by its path: no checkout is here"):
        find_model("resnet-56k", pick_file=never)
