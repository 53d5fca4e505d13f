"""`nas table` on runs made by hand."""

from dataclasses import replace
from pathlib import Path

from typer.testing import CliRunner

import nas
from nas.cli.main import app
from nas.results.run_folder import RunFolder
from tests.fake_runs import a_run, some_latency, some_record

HEADS = "weights not zero R bytes packed R bytes MMAC accuracy test target ms kind frames/s"


def test_the_verified_front_of_the_newest_run_is_shown(run: CliRunner, folder: RunFolder) -> None:
    found = run.invoke(app, ["table", "--runs", str(folder.path.parent)])
    assert found.exit_code == 0
    title, heads, *rows = found.stdout.splitlines()
    assert title.strip() == "size and speed; frames/s of the classifier alone"
    assert " ".join(heads.split()) == f"trial {HEADS}"
    assert [row.split() for row in rows] == [
        ["0", "900", "800", "-", "1,000", "-", "-", "1.00", "50.0%", "-", "1", "predicted", "1,000"],
        ["1", "1,800", "1,600", "-", "2,000", "-", "-", "2.00", "65.0%", "-", "2", "predicted", "500"],
        ["2", "2,700", "2,400", "-", "3,000", "-", "-", "3.00", "80.0%", "-", "4", "predicted", "250"],
    ]


def test_several_runs_are_named_and_compared_with_their_own_baselines(run: CliRunner, tmp_path: Path) -> None:
    small = some_record(1, 0.6, 2.0, params=500, nonzero_params=250, size_bytes=1000)
    base = some_record(-1, 0.7, 4.0, phase="base", params=1000, nonzero_params=1000, size_bytes=4000)
    runs = [a_run(tmp_path, records=[base, small], name="b"), a_run(tmp_path, records=[small], name="a")]
    found = run.invoke(app, ["table", *(str(folder.path) for folder in runs)])
    assert found.exit_code == 0
    _, heads, *rows = found.stdout.splitlines()
    assert " ".join(heads.split()) == f"run trial {HEADS}"
    assert [row.split()[:8] for row in rows] == [
        ["b", "base", "1,000", "1,000", "1.00", "4,000", "-", "1.00"],
        ["b", "1", "500", "250", "4.00", "1,000", "-", "4.00"],
        ["a", "1", "500", "250", "-", "1,000", "-", "-"],
    ]


def test_a_run_without_a_front_says_so(run: CliRunner, tmp_path: Path) -> None:
    failed = some_record(0, None, None, status="failed", reason="loss is not finite", model="")
    found = run.invoke(app, ["table", str(a_run(tmp_path, records=[failed]).path)])
    assert (found.exit_code, found.stdout) == (0, "No candidate is complete and within the limits yet.\n")


def test_a_folder_that_is_not_a_run_is_one_line(run: CliRunner, folder: RunFolder, tmp_path: Path) -> None:
    for words in (["--runs", str(tmp_path / "nowhere")], [str(folder.path), str(tmp_path / "other")]):
        found = run.invoke(app, ["table", *words])
        assert (found.exit_code, found.stdout) == (2, "")
        assert len(found.stderr.splitlines()) == 1
        assert found.stderr.startswith("nas: ")


def test_a_latency_of_a_busy_machine_is_marked(run: CliRunner, tmp_path: Path) -> None:
    busy = replace(some_latency(2.0, kind="measured"), notes=("busy machine: the reference network drifted by +9.0%",))
    runs = [a_run(tmp_path, records=[some_record(1, 0.6, 2.0), some_record(2, 0.7, 3.0, latency=busy)])]
    found = run.invoke(app, ["table", str(runs[0].path)])
    assert found.exit_code == 0
    assert [row.split()[11:-1] for row in found.stdout.splitlines()[2:]] == [["measured", "busy"]]
    assert nas.table(runs[0])["latency_disturbed"].tolist() == [True]
