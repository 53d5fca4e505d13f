"""A search whose study is in PostgreSQL, while the server stops and starts again and again."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nas.cli.main import app
from nas.results.run_folder import RunFolder
from tests.journal import trials_of
from tests.postgres import PASSWORD, Server, a_server
from tests.tiny_evaluator import fields_of
from tests.tiny_search import TINY

# A connection that the server has cut is dropped; its end is noticed whenever it is collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
OUTAGES = 2
UNTRAINED = {"max_latency": "1us", "trials": 3}  # no candidate is feasible, so none is trained, which takes time


def disturb(server: Server, is_over: threading.Event, outages: list[str]) -> None:
    """Stop and start the server, `OUTAGES` times or until the search is over."""
    while len(outages) < OUTAGES and not is_over.wait(0.8):  # it is up for long enough that something happens
        mode = ("immediate", "fast")[len(outages) % 2]
        server.stop(mode)
        is_over.wait(0.1)
        server.start()
        outages.append(mode)


@pytest.mark.slow
def test_a_search_on_a_database_that_comes_and_goes_has_the_records_of_a_quiet_one(
    go: Callable[..., RunFolder], tmp_path: Path
) -> None:
    with a_server() as server:
        url, is_over, outages = server.new_database(), threading.Event(), list[str]()
        disturber = threading.Thread(target=disturb, args=(server, is_over, outages))
        flags = {"storage": url, "runs": str(tmp_path / "disturbed"), **TINY, "rungs": "1.0", **UNTRAINED}
        disturber.start()
        try:
            found = CliRunner().invoke(app, ["search", *(f"--{k.replace('_', '-')}={v}" for k, v in flags.items())])
        finally:
            is_over.set()
            disturber.join()
        assert found.exit_code == 0, found.output
        (path,) = (tmp_path / "disturbed").iterdir()
        disturbed = RunFolder(path)
        trials = [(t.number, t.state, t.values, t.params) for t in trials_of(disturbed, url)]
        quiet = go(**UNTRAINED)
        assert trials == [(t.number, t.state, t.values, t.params) for t in trials_of(quiet)]
        assert [fields_of(r) for r in disturbed.records()] == [fields_of(r) for r in quiet.records()]
        written = b"".join(file.read_bytes() for file in path.rglob("*") if file.is_file())
    assert not any(word.encode() in written + found.output.encode() for word in (PASSWORD, "pass%2Fword"))
    assert outages
