"""Crashes are counted, in real processes that really die; exceptions are not."""

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
from tests.tiny_search import ASSEMBLY, FACES, TINY, make_quick

ROOT = Path(__file__).resolve().parents[2]
GUARD = "from nas.searcher.crash_guard import crash_guard"
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
    """Run code, which sees `folder` and `runs`, in processes of its own; each must end with `status`."""
    lines = [
        f"import os, signal\nfrom pathlib import Path\nfrom nas.results.run_folder import RunFolder\n{imports}",
        f"folder = RunFolder(Path({str(folder.path)!r}))\nruns = folder.path.parent",
        f"for _ in range({times}):\n    child = os.fork()\n    if not child:",
        *(f"        {line}" for line in code.splitlines()),
        f"    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == {status}",
    ]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=ROOT, check=True)


@pytest.mark.parametrize("crashes", [0, 1, MAX_CRASHES])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_exception_is_no_crash_and_completion_resets_the_count(
    folder: RunFolder, error: type[BaseException], crashes: int
) -> None:
    file = folder.path / "locks" / "work.deaths"
    if crashes:
        file.write_text(str(crashes))
    with pytest.raises(error), crash_guard(folder, "work"):
        raise error
    assert (int(file.read_text()) if file.exists() else 0) == crashes
    with crash_guard(folder, "work") as guard:
        assert (guard.crashes, guard.should_skip) == (crashes, crashes == MAX_CRASHES)
    assert not file.exists()


@pytest.mark.parametrize(("way", "status"), [("os._exit(3)", 3), ("os.kill(os.getpid(), signal.SIGKILL)", -9)])
def test_crash_is_counted(folder: RunFolder, way: str, status: int) -> None:
    die(folder, GUARD, f"with crash_guard(folder, 'work'): {way}", status=status, times=2)
    with crash_guard(folder, "work") as guard:
        assert guard.crashes == 2


def test_progress_resets_the_count(folder: RunFolder) -> None:
    (folder.path / "locks" / "work.deaths").write_text("2")
    work = "with crash_guard(folder, 'work') as guard:\n    guard.record_progress()\n    os._exit(3)"
    die(folder, GUARD, work, status=3)
    with crash_guard(folder, "work") as guard:
        assert guard.crashes == 1

    def interrupted() -> None:
        with crash_guard(folder, "work") as guard:
            guard.record_progress()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with crash_guard(folder, "work") as guard:
        assert guard.crashes == 0


def test_trial_whose_sampling_crashes_is_failed_and_the_next_one_asked(tmp_path: Path) -> None:
    """A sampler that crashes: three processes die over trial 0, whose gene values are never complete."""
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


def test_stale_trial_is_asked_again_with_its_crashes(tmp_path: Path) -> None:
    study = a_study(tmp_path)
    die(study.folder, STUDY, "held = ExitStack()\na_study(runs).ask(held)\nos._exit(9)", status=9, times=MAX_CRASHES)
    with ExitStack() as held:
        ask = a_study(tmp_path).ask(held)
        assert (ask.number, ask.crash_guard.crashes, ask.crash_guard.should_skip) == (0, MAX_CRASHES, True)
        assert set(ask.picked) == {"width", "operation"}
    assert not list((study.folder.path / "locks").glob("*.deaths"))


def test_candidate_that_crashes_three_times_is_failed_and_the_search_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "synthetic-plain-jetson")
    code = """
make_quick(pytest.MonkeyPatch())
import_module("nas.searcher.assembly").load_data = lambda *_, **__: FACES
Evaluator.evaluate = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
search(make_config(**(TINY | {"runs": runs, "trials": 2})))
"""
    die(folder, SEARCH, code, status=-signal.SIGKILL, times=MAX_CRASHES)
    assert folder.records() == []
    make_quick(monkeypatch)
    module: Any = import_module("nas.searcher.searcher")
    monkeypatch.setattr(ASSEMBLY, "load_data", lambda *_, **__: FACES)
    monkeypatch.setattr(module, "write_report", lambda folders, path: path.write_text("<html>"))
    module.search(make_config(**(TINY | {"runs": tmp_path, "trials": 2})))
    first, second = folder.records()
    assert (first.trial, first.status, first.reason) == (0, "failed", ABANDONED_REASON)
    assert (second.trial, second.status) == (1, "complete")
    assert [t.state for t in trials_of(folder)][:2] == [TrialState.FAIL, TrialState.COMPLETE]
    assert not list((folder.path / "locks").glob("*.deaths"))
