"""`nas pick` on a run made by hand."""

from pathlib import Path

from typer.testing import CliRunner

from nas.cli.main import app
from nas.results.run_folder import RunFolder
from tests.shown import plain


def test_pick_shows_the_reason_and_the_neighbours(run: CliRunner, folder: RunFolder) -> None:
    found = run.invoke(app, ["pick", str(folder.path), "--max-latency", "3ms"])
    words = plain(found.stdout)
    assert found.exit_code == 0
    assert words.startswith("trial 1 ")
    assert "reason: the most accurate within the limits, of 3 on the verified front" in words
    assert "the next slower one, trial 2, has +15.0 points" in words
    assert f"nas export {folder.path} --trial 1" in words


def test_pick_takes_the_newest_run(run: CliRunner, folder: RunFolder) -> None:
    found = run.invoke(app, ["pick", "--runs", str(folder.path.parent), "--min-accuracy", "0.7"])
    assert plain(found.stdout).startswith("trial 2 ")


def test_pick_without_a_run_is_one_line(run: CliRunner, tmp_path: Path) -> None:
    found = run.invoke(app, ["pick", "--runs", str(tmp_path)])
    assert found.exit_code == 2
    assert "holds no run yet" in found.stderr
