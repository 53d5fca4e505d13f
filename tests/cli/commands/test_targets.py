"""`nas targets` without a board; with one, see tests/runtimes/test_board_cli.py."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from nas.cli.main import app
from tests.shown import plain


def test_targets_are_a_table_that_says_predicted(run: CliRunner) -> None:
    found = run.invoke(app, ["targets"])
    assert "measured here" in found.stdout
    assert "predicted" in found.stdout
    assert "jetson-orin-nano" in found.stdout


def test_a_board_is_shown_with_sources_and_power_modes(run: CliRunner) -> None:
    shown = plain(run.invoke(app, ["targets", "show", "jetson-agx-orin"]).stdout)
    assert "compute_capability 8.7" in shown
    assert "MAXN (this profile) 1300 16 3200" in shown
    assert "MODE_15W 408 6 2133" in shown


def test_a_board_in_another_mode_is_added_and_shown(
    run: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    added = run.invoke(app, ["targets", "add", "slow", "--like", "jetson-agx-orin", "--power-mode", "15W"])
    assert plain(added.stdout) == (
        "slow: Jetson AGX Orin 64 GB (MODE_15W, GPU at 408 MHz), yours show nas targets show slow "
    )
    assert "MODE_15W (this profile)" in plain(run.invoke(app, ["targets", "show", "slow"]).stdout)


def test_a_bad_mode_is_one_line_that_lists_the_modes(
    run: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = run.invoke(app, ["targets", "add", "slow", "--like", "jetson-nano", "--power-mode", "9W"])
    assert refused.exit_code == 2
    assert refused.stderr == "nas: power_mode of jetson-nano must be one of MAXN, 5W, but got '9W'\n"
    assert not Path("nas.toml").exists()
