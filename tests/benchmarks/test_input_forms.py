"""The benchmark of input forms on a tiny file."""

from pathlib import Path

import pytest

from benchmarks.input_forms import FORMS, main
from tests.fake_models import a_classifier


def test_each_form_has_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(a_classifier(tmp_path / "m.onnx"))
    monkeypatch.setattr("sys.argv", ["input_forms.py", model, "--sides", "8", "20", "--rounds", "2", "--runs", "2"])
    assert main() == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    names = [row[0].removeprefix("| ") for row in rows[1:]]
    assert set(names) == {"plain", *(",".join(words) for words in FORMS)}
    assert names.count("any-size") == 2
    assert all(row[5].startswith("0 of ") for row in rows[2:])
    assert all(float(row[3]) > 0 for row in rows[2:])


def test_a_file_that_is_none_gets_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["input_forms.py", str(tmp_path / "none.onnx")])
    assert main() == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
