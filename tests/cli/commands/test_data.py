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
from tests.vision.pictures import astronaut, write_picture


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


def test_data_crop_makes_a_data_set_of_photographs_and_resumes(run: CliRunner, tmp_path: Path) -> None:
    for name in ("happy", "sad"):
        for i in range(3):  # the frames differ, so that none is a copy of another
            write_picture(tmp_path / "photos" / name / f"{i}.png", astronaut()[10 * i : 400, 10 * (name == "sad") :])
    (tmp_path / "photos" / "sad" / "torn.png").write_bytes(b"torn")
    out = tmp_path / "crops"
    words = ["data", "crop", str(tmp_path / "photos"), "--out", str(out), "--size", "48", "--grey", "--min-face", "60"]
    first = run.invoke(app, words)
    assert first.exit_code == 0, first.output
    assert "6 crops of 7 photographs; 1 left out" in plain(first.stdout)
    assert "sad/torn.png: " in first.stderr
    assert "7 were done before" in plain(run.invoke(app, words).stdout)
    other = run.invoke(app, [*words, "--faces", "all"])
    assert (other.exit_code, len(other.stderr.splitlines())) == (2, 1)
    assert "made with other settings (faces)" in other.stderr
    checked = run.invoke(app, ["data", "check", "folder", "--data", str(out), "--data-option", "val_share=0.4"])
    assert "all" in plain(checked.stdout), checked.output


def test_data_crop_without_a_face_is_status_2(run: CliRunner, tmp_path: Path) -> None:
    write_picture(tmp_path / "photos" / "a.png", astronaut()[300:])
    ended = run.invoke(app, ["data", "crop", str(tmp_path / "photos"), "--out", str(tmp_path / "crops")])
    assert ended.exit_code == 2
    assert ended.stderr.splitlines() == ["a.png: no face"]
