"""`nas data check`: its figures, and names that the terminal cannot show."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nas.cli.main import app
from tests.data.miniatures import write_jaffe
from tests.data.sources import write_folder
from tests.shown import plain


def test_data_check_counts_images_by_class(run: CliRunner, monkeypatch, faces) -> None:
    monkeypatch.setattr("nas.data.loading.load_data", lambda name, path, **_: faces)
    words = plain(run.invoke(app, ["data", "check", "spots"]).stdout)
    assert "angry 32 (33.3%) 16 (33.3%)" in words
    assert "all 96 48" in words
    assert f"digest {faces.digest}" in words


def test_data_check_divides_by_a_protocol_and_says_what_a_search_does(
    run: CliRunner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = write_jaffe(tmp_path / "jaffe")
    words = plain(run.invoke(app, ["data", "check", "jaffe", "--data", str(root), "--protocol", "loso"]).stdout)
    assert "subjects in train 4 subjects in val 1 subjects in test 1" in words
    assert "no subject is in two splits" in words
    assert "protocol loso, in place of the source's own splits: 6 folds by subject" in words
    wrong = run.invoke(app, ["data", "check", "jaffe", "--data", str(root), "--protocol", "kfold"])
    assert wrong.exit_code == 2
    assert "protocol must be official, holdout, kfold:K, loso or folds:FILE" in plain(wrong.stderr)
    above = run.invoke(app, ["data", "check", "jaffe", "--data", str(tmp_path)])
    assert above.exit_code == 2
    assert "is one level too high for JAFFE; give" in plain(above.stderr)


def test_names_beyond_ascii_are_escaped_where_the_terminal_lacks_them_and_a_missing_cache_is_a_warning(
    tmp_path: Path,
) -> None:
    root = write_folder(tmp_path / "visages é", classes=("colère", "joy"))
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "XDG_CACHE_HOME": "/dev/null"}
    environment = os.environ | locale | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "nas", "data", "check", "folder", "--data", root]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "col\\xe8re" in ended.stdout
    assert "visages \\xe9 has no val split" in ended.stdout
    assert ended.stderr.startswith("WARNING: cache folder /dev/null/fer-nas cannot be written")
    assert ended.stderr.count("\n") == 1
