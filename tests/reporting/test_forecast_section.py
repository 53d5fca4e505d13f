"""Seed noise, stop reason and forecast: in the report, on the terminal and in the live status."""

import io
import json
import re
from pathlib import Path

from rich.console import Console

from nas.cli.render.progress import format_status, status_panel
from nas.cli.render.terminal import show_front
from nas.reporting.forecast_section import forecast_section, seed_variance_section
from nas.reporting.html_report import write_report
from nas.reporting.run_view import RunView
from nas.results.run_folder import RunFolder
from nas.results.search_end import SearchEnd, write_search_end
from nas.results.status import SearchStatus
from tests.fake_runs import a_run
from tests.results.test_search_end import flat_run
from tests.results.test_seed_variance import a_front, verified
from tests.results.test_throughput import MOMENT


def words(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def shown(folder: RunFolder) -> str:
    console = Console(file=io.StringIO(), width=160)
    show_front(console, folder)
    found = console.file.getvalue()  # type: ignore[attr-defined]
    assert isinstance(found, str)
    return found


def test_ranks_and_seeds_are_shown_with_seed_noise(tmp_path: Path) -> None:
    folder = a_run(tmp_path, records=a_front(verified(1, 0.60, 0.64), verified(2, 0.63, 0.67), verified(3, 0.9, 0.94)))
    told = words(seed_variance_section(RunView(folder), show_run_name=False))
    assert "Ranks by accuracy, and seed noise" in told
    assert re.search(r"3 1 1 90\.0% 86\.1% to 92\.9% 92\.0% [0-9.]+% to [0-9.]+% 90\.0%, 94\.0%", told)
    assert "Trials 2 and 1 differ by 3.0 points, and chance alone by up to" in told
    assert told in words(write_report([folder], folder.path / "report.html").read_text())
    assert "warning: the order of trials 2 and 1 is within seed noise" in shown(folder)


def test_one_seed_each_says_that_seed_noise_is_unknown(tmp_path: Path) -> None:
    told = words(seed_variance_section(RunView(a_run(tmp_path)), show_run_name=True))
    assert "--verify-seeds 3" in told
    assert "within seed noise" not in told
    assert seed_variance_section(RunView(a_run(tmp_path / "none", records=[])), show_run_name=False) == ""


def test_the_stop_reason_and_the_next_hour_are_shown(tmp_path: Path) -> None:
    folder = a_run(tmp_path, records=flat_run(50), max_latency=None)
    folder.write("clocks/a.json", json.dumps([MOMENT, MOMENT + 3000]))
    write_search_end(folder, SearchEnd(why="trials", candidates=50))
    for told in (words(forecast_section(RunView(folder), show_run_name=True)), shown(folder)):
        assert "the search ended after 50 candidates: all trials are done" in told
        assert re.search(r"the next hour, by the run.+s own curve: another \d+ candidates would add", told)
    assert forecast_section(RunView(a_run(tmp_path / "none", records=[])), show_run_name=False) == ""


def test_a_run_without_a_front_shows_the_stop_reason(tmp_path: Path) -> None:
    folder = a_run(tmp_path, records=[])
    write_search_end(folder, SearchEnd(why="budget", candidates=0))
    assert "the search ended after 0 candidates: its share of the budget is spent" in shown(folder)


def test_the_live_status_has_the_forecast() -> None:
    status = SearchStatus(
        run="runs/x", stage="search", activity="", done=3, total=9, feasible_share=1.0, hypervolume=0.5,
        best="none yet", left_s=None, forecast="60 candidates an hour",
    )  # fmt: skip
    assert format_status(status).endswith("best none yet; 60 candidates an hour")
    console = Console(file=io.StringIO(), width=100)
    console.print(status_panel(status))
    assert "forecast: 60 candidates an hour" in console.file.getvalue()  # type: ignore[attr-defined]


def test_notes_of_the_data_are_shown(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    (folder.path / "data.json").write_text(json.dumps({"notes": ["classes without training faces: bored"]}))
    assert "data: classes without training faces: bored" in shown(folder)
