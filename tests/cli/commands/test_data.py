"""`nas data check`: its figures, and names that the terminal cannot show."""

import os
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from nas.cli.main import app
from tests.data.sources import write_folder
from tests.shown import plain


def test_data_check_counts_images_by_class(run: CliRunner, monkeypatch, faces) -> None:
    monkeypatch.setattr("nas.data.loading.load_data", lambda name, path, **_: faces)
    words = plain(run.invoke(app, ["data", "check", "spots"]).stdout)
    assert "angry 32 (33.3%) 16 (33.3%)" in words
    assert "all 96 48" in words
    assert f"digest {faces.digest}" in words


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
