"""The public API: small, quick to import, and explained by help()."""

import inspect
import json
import pydoc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import nas
from nas.config import FIELD_GROUPS, GROUPS, TRAIN_FIELDS
from nas.errors import ConfigError
from tests.fake_runs import a_model, a_run, some_record

FUNCTIONS = (
    "search", "compress", "train", "quantize", "prune", "load_run", "pick", "predict", "export", "measure", "table",
    "report",
)  # fmt: skip


def test_the_functions_stay_functions_when_their_modules_are_imported() -> None:
    code = "import nas.searcher.searcher, nas.cli.main, nas; print(*(callable(getattr(nas, n)) for n in nas.__all__))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert printed.stdout.split() == ["True"] * len(nas.__all__)


def test_importing_the_face_loads_nothing_heavy() -> None:
    code = "import sys, nas; print([m for m in ('torch', 'pandas', 'optuna', 'onnx', 'plotly') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_help_begins_with_the_functions() -> None:
    words = pydoc.plain(pydoc.render_doc(nas))
    first = words.partition("PACKAGE CONTENTS")[0]
    for name in FUNCTIONS:
        assert f"nas.{name}(" in first
    for name in nas.__all__:
        assert name in first
        assert f"    {name}" in words or f"class {name}" in words
    assert nas.__version__


@pytest.mark.parametrize(
    ("function", "fields"),
    [
        (nas.search, set(FIELD_GROUPS)),
        (nas.compress, set(FIELD_GROUPS) - {"space"}),
        (nas.train, set(TRAIN_FIELDS)),
        (nas.make_config, set(FIELD_GROUPS)),
    ],
    ids=["search", "compress", "train", "make_config"],
)
def test_functions_name_type_and_explain_every_field(function: Callable[..., object], fields: set[str]) -> None:
    parameters = inspect.signature(function).parameters
    assert fields <= set(parameters)
    assert all(p.kind is not p.VAR_KEYWORD and p.annotation is not p.empty for p in parameters.values())
    lines = [line.strip() for line in (function.__doc__ or "").splitlines()]
    for name in fields - {"model"}:
        description = GROUPS[FIELD_GROUPS[name]].model_fields[name].description
        assert any(line.startswith(f"{name}: {description}") for line in lines), name


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_have_typed_parameters_and_an_example(name: str) -> None:
    function = getattr(nas, name)
    assert all(p.annotation is not p.empty for p in inspect.signature(function).parameters.values())
    assert "Examples:" in function.__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
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


def test_pick_takes_limits_with_units_and_export_takes_its_selection(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "runs", records=[])
    for trial, accuracy, ms in ((0, 0.5, 1.0), (1, 0.6, 2.0), (2, 0.7, 4.0)):
        folder.append(some_record(trial, accuracy, ms, **a_model(folder, f"models/{trial}.onnx")))
    selection = nas.pick(folder.path, max_latency="3ms")
    assert (selection.record.trial, selection.faster.trial, selection.slower.trial) == (1, 0, 2)
    assert nas.pick(nas.load_run(folder.path), min_accuracy=0.65).record.trial == 2
    assert nas.pick(folder, max_latency="5ms", knee=True).reason.startswith("the knee within the limits")
    model = nas.export(folder, selection, out=tmp_path / "out")
    assert json.loads((model.parent / "record.json").read_text())["trial"] == 1
    with pytest.raises(ConfigError, match="no member of the front satisfies all limits"):
        nas.pick(folder, max_latency="1us")


def test_table_has_a_row_for_the_baseline_and_each_member_of_the_fronts(tmp_path: Path) -> None:
    small = some_record(1, 0.6, 2.0, params=500, nonzero_params=250, size_bytes=1000, packed_bytes=600)
    base = some_record(-1, 0.7, 4.0, phase="base", params=1000, nonzero_params=1000, size_bytes=4000, key_of=9)
    a, b = a_run(tmp_path, records=[base, small], name="a"), a_run(tmp_path, records=[small], name="b")
    costs = nas.table(a, nas.load_run(b.path))
    assert costs["run"].tolist() == ["a", "a", "b"]
    assert costs["trial"].tolist() == [-1, 1, 1]
    assert costs["frames_per_s"].tolist() == [250, 500, 500]
    assert costs["compression_ratio"].tolist()[:2] == [1.0, 4.0]
    assert costs["size_ratio"].tolist()[:2] == [1.0, 4.0]
    assert costs["compression_ratio"].isna().tolist() == [False, False, True]
    assert nas.table().empty
