"""`nas report` on runs made by hand."""

import re
from dataclasses import replace
from pathlib import Path

from typer.testing import CliRunner

from nas.cli.main import app
from tests.fake_runs import a_run, some_record
from tests.shown import plain


def test_report_of_one_run_and_of_two(run: CliRunner, tmp_path: Path) -> None:
    one, two = a_run(tmp_path, name="one"), a_run(tmp_path, name="two")
    assert run.invoke(app, ["report", str(one.path)]).exit_code == 0
    assert (one.path / "report.html").exists()
    out = tmp_path / "both.html"
    found = run.invoke(app, ["report", str(one.path), str(two.path), "--out", str(out)])
    assert found.exit_code == 0
    assert out.exists()
    assert found.stdout.count("verified front") == 2


def test_a_front_shows_which_latencies_were_measured_on_a_busy_machine(run: CliRunner, tmp_path: Path) -> None:
    calm, busy = some_record(1, 0.5, 1.0), some_record(2, 0.6, 2.0)
    assert busy.latency is not None
    noted = replace(busy.latency, notes=("2 files interleaved", "busy machine: 12% longer"))
    folder = a_run(tmp_path, records=[calm, replace(busy, latency=noted)])
    found = plain(run.invoke(app, ["report", str(folder.path)]).stdout)
    assert found.count("busy machine") == 1
    assert re.search(r"trial 2: .*busy machine: 12% longer", found)
    assert "interleaved" not in found
