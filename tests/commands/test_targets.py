"""`nas targets` without a board; with one, see tests/runtimes/test_board_cli.py."""

from typer.testing import CliRunner

from nas.cli import app


def test_targets_are_a_table_that_says_predicted(run: CliRunner) -> None:
    found = run.invoke(app, ["targets"])
    assert "measured here" in found.stdout
    assert "predicted" in found.stdout
    assert "jetson-orin-nano" in found.stdout
