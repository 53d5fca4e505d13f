"""Work that ends the process is counted, in real processes that really die; work that raises is not."""

import signal
import subprocess
import sys
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from nas.config import make_config
from nas.results.run_folder import RunFolder
from nas.searcher.crash_guard import ABANDONED_REASON, MAX_CRASHES, crash_guard
from tests.fake_runs import a_run
from tests.fake_studies import a_study
from tests.journal import trials_of
from tests.tiny_search import FACES, TINY, make_quick

ROOT = Path(__file__).resolve().parents[2]
ATTEMPT = "from nas.searcher.crash_guard import attempt"
SEARCH = """
import pytest
from importlib import import_module
from nas.config import make_config
from nas.pipeline import Evaluator
from nas.searcher.searcher import search
from tests.tiny_search import FACES, TINY
from tests.tiny_search import make_quick
"""
STUDY = "from contextlib import ExitStack\nfrom tests.fake_studies import a_study"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return a_run(tmp_path, records=[])


def die(folder: RunFolder, imports: str, code: str, *, status: int, times: int = 1) -> None:
    """Run code in processes of their own, one after the other, each of which must end so. It knows `folder`, `runs`."""
    lines = [
        f"import os, signal\nfrom pathlib import Path\nfrom nas.results.run_folder import RunFolder\n{imports}",
        f"folder = RunFolder(Path({str(folder.path)!r}))\nruns = folder.path.parent",
        f"for _ in range({times}):\n    child = os.fork()\n    if not child:",
        *(f"        {line}" for line in code.splitlines()),
        f"    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == {status}",
    ]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=ROOT, check=True)


@pytest.mark.parametrize("deaths", [0, 1, MAX_CRASHES])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_exception_is_no_death_and_an_end_forgets_all(
    folder: RunFolder, error: type[BaseException], deaths: int
) -> None:
    file = folder.path / "locks" / "work.deaths"
    if deaths:
        file.write_text(str(deaths))
    with pytest.raises(error), crash_guard(folder, "work"):
        raise error
    assert (int(file.read_text()) if file.exists() else 0) == deaths
    with crash_guard(folder, "work") as made:
        assert (made.crashes, made.should_skip) == (deaths, deaths == MAX_CRASHES)
    assert not file.exists()


@pytest.mark.parametrize(("way", "status"), [("os._exit(3)", 3), ("os.kill(os.getpid(), signal.SIGKILL)", -9)])
def test_a_process_that_dies_leaves_its_count(folder: RunFolder, way: str, status: int) -> None:
    die(folder, ATTEMPT, f"with attempt(folder, 'work'): {way}", status=status, times=2)
    with crash_guard(folder, "work") as made:
        assert made.crashes == 2


def test_work_that_gets_further_is_counted_from_there(folder: RunFolder) -> None:
    (folder.path / "locks" / "work.deaths").write_text("2")
    die(folder, ATTEMPT, "with attempt(folder, 'work') as made:\n    made.progressed()\n    os._exit(3)", status=3)
    with crash_guard(folder, "work") as made:
        assert made.crashes == 1

    def interrupted() -> None:
        with crash_guard(folder, "work") as made:
            made.record_progress()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with crash_guard(folder, "work") as made:
        assert made.crashes == 0


def test_a_trial_whose_picks_kill_the_process_is_failed_and_the_next_one_asked(tmp_path: Path) -> None:
    """A sampler that crashes: three processes die over trial 0, which stands for no candidate."""
    study = a_study(tmp_path)
    crashing = (
        STUDY
        + "\nfrom nas.searcher.study import Study\nStudy._suggest = lambda *_: os.kill(os.getpid(), signal.SIGKILL)"
    )
    die(study.folder, crashing, "a_study(runs).ask(ExitStack())", status=-signal.SIGKILL, times=MAX_CRASHES)
    with ExitStack() as held:
        assert a_study(tmp_path).ask(held).number == 1
    first = trials_of(study.folder)[0]
    assert (first.state, first.user_attrs["reason"]) == (TrialState.FAIL, ABANDONED_REASON)


def test_a_trial_that_was_picked_is_handed_out_with_its_deaths(tmp_path: Path) -> None:
    study = a_study(tmp_path)
    die(study.folder, STUDY, "held = ExitStack()\na_study(runs).ask(held)\nos._exit(9)", status=9, times=MAX_CRASHES)
    with ExitStack() as held:
        ask = a_study(tmp_path).ask(held)
        assert (ask.number, ask.crash_guard.crashes, ask.crash_guard.should_skip) == (0, MAX_CRASHES, True)
        assert set(ask.picked) == {"width", "operation"}
    assert not list((study.folder.path / "locks").glob("*.deaths"))


def test_a_candidate_that_kills_the_process_is_failed_after_three_and_the_search_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "synthetic-plain-jetson")
    code = """
make_quick(pytest.MonkeyPatch())
import_module("nas.searcher.searcher").load_data = lambda *_, **__: FACES
Evaluator.evaluate = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
search(make_config(**(TINY | {"runs": runs, "trials": 2})))
"""
    die(folder, SEARCH, code, status=-signal.SIGKILL, times=MAX_CRASHES)
    assert folder.records() == []
    make_quick(monkeypatch)
    module: Any = import_module("nas.searcher.searcher")
    monkeypatch.setattr(module, "load_data", lambda *_, **__: FACES)
    monkeypatch.setattr(module, "write_report", lambda folders, path: path.write_text("<html>"))
    module.search(make_config(**(TINY | {"runs": tmp_path, "trials": 2})))
    first, second = folder.records()
    assert (first.trial, first.status, first.reason) == (0, "failed", ABANDONED_REASON)
    assert (second.trial, second.status) == (1, "complete")
    assert [t.state for t in trials_of(folder)][:2] == [TrialState.FAIL, TrialState.COMPLETE]
    assert not list((folder.path / "locks").glob("*.deaths"))
