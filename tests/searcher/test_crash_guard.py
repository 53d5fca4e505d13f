"""Crashes are told from kills, in real processes that really die; exceptions are neither."""

import faulthandler
import signal
import subprocess
import sys
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

import nas.runtimes.oom_kills
from nas.config import make_config
from nas.results.run_folder import RunFolder
from nas.searcher.crash_guard import MAX_CRASHES, crash_guard, is_abandoned
from tests.fake_runs import a_run
from tests.fake_studies import a_study
from tests.journal import trials_of
from tests.tiny_search import ASSEMBLY, FACES, TINY, make_quick

ROOT = Path(__file__).resolve().parents[2]
GUARD = "import nas.searcher.crash_guard as cg\nfrom nas.searcher.crash_guard import crash_guard"
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
SEGFAULT = "import ctypes; ctypes.string_at(0)"
ABANDONED = "it crashed its process 2 times: SIGSEGV, SIGSEGV"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return a_run(tmp_path, records=[])


def die(folder: RunFolder, imports: str, *deaths: tuple[str, int]) -> None:
    """Run each code, which sees `folder` and `runs`, in a process that must end with the status beside it."""
    lines = [
        f"import os, signal, time\nfrom pathlib import Path\nfrom nas.results.run_folder import RunFolder\n{imports}",
        f"folder = RunFolder(Path({str(folder.path)!r}))\nruns = folder.path.parent",
    ]
    for code, status in deaths:
        lines += ["child = os.fork()\nif not child:", *(f"    {line}" for line in code.splitlines())]
        lines += [f"assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == {status}"]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=ROOT, check=True)


def files(folder: RunFolder) -> list[str]:
    """What the guards have left."""
    return sorted(f.name for f in (folder.path / "locks").iterdir() if f.suffix in (".fault", ".crashes"))


def crash(folder: RunFolder, name: str, times: int) -> None:
    """Leave what so many crashes leave."""
    (folder.path / "locks" / f"{name}.crashes").write_text(
        "Fatal Python error: Segmentation fault\n\n  File x\n" * times
    )


@pytest.mark.parametrize("crashes", [0, 1, MAX_CRASHES])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_exception_is_no_crash_and_completion_resets_the_count(
    folder: RunFolder, error: type[BaseException], crashes: int
) -> None:
    if crashes:
        crash(folder, "work", crashes)
    with pytest.raises(error), crash_guard(folder, "work"):
        raise error
    with crash_guard(folder, "work") as guard:
        assert guard.crashes == ("SIGSEGV",) * crashes
        assert guard.should_skip == (crashes == MAX_CRASHES)
        assert is_abandoned(guard.reason)
    assert files(folder) == []


def test_only_what_a_process_does_to_itself_is_a_crash(folder: RunFolder) -> None:
    """Every way out of a process, in its turn, and each crash by name."""
    kills = [("os._exit(3)", 3)]
    kills += [(f"os.kill(os.getpid(), signal.{name})", -getattr(signal, name)) for name in ("SIGKILL", "SIGHUP")]
    kills += [("signal.signal(15, signal.SIG_DFL); os.kill(os.getpid(), 15)", -15)]
    crashes = [(SEGFAULT, -signal.SIGSEGV), ("os.abort()", -signal.SIGABRT)]
    crashes += [
        (f"os.kill(os.getpid(), signal.{name})", -getattr(signal, name)) for name in ("SIGBUS", "SIGFPE", "SIGILL")
    ]
    hang = ("cg.SILENCE_LIMIT_S = 0.2\nwith crash_guard(folder, 'work'): time.sleep(60)", 1)
    alive = """
cg.SILENCE_LIMIT_S = 1.0
with crash_guard(folder, 'work'):
    for _ in range(30):
        time.sleep(0.1)
        cg.note_sign_of_life()
os._exit(0)"""
    guarded = [(f"with crash_guard(folder, 'work'): {code}", status) for code, status in [*kills, *crashes, *kills]]
    die(folder, GUARD, (alive, 0), *guarded, hang)
    with crash_guard(folder, "work") as guard:
        assert guard.crashes == ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "over its time limit")
    assert files(folder) == []


@pytest.mark.parametrize(
    ("file", "content", "groups"),
    [
        ("memory/jobs/one/memory.oom_control", "under_oom 0\noom_kill {}\n", "9:cpu:/\n4:memory:/jobs/one\n0::/\n"),
        ("jobs/one/memory.events.local", "low 0\nhigh 7\nmax 9\noom 3\noom_kill {}\n", "0::/jobs/one\n"),
        ("memory.events", "oom_kill {}\n", "0::/../of the host\n"),
    ],
    ids=["version 1", "version 2", "in a container"],
)  # fmt: skip
def test_a_kill_for_want_of_memory_is_a_crash_and_any_other_is_none(
    folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, content: str, groups: str
) -> None:
    root, counter = tmp_path / "cgroup", tmp_path / "cgroup" / file
    counter.parent.mkdir(parents=True)
    (tmp_path / "groups").write_text(groups)
    monkeypatch.setattr(nas.runtimes.oom_kills, "CGROUP_ROOT", root)
    monkeypatch.setattr(nas.runtimes.oom_kills, "OWN_CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(nas.runtimes.oom_kills, "BOOT_ID", tmp_path / "groups")
    counter.write_text(content.format(4))
    left = folder.path / "locks" / "work.fault"
    with crash_guard(folder, "work"):
        at_work = left.read_text()
    for count, crashes in ((4, ()), (5, ("out of memory",))):
        left.write_text(at_work)  # as a process that was killed leaves it
        counter.write_text(content.format(count))
        with pytest.raises(KeyboardInterrupt), crash_guard(folder, "work") as guard:
            raise KeyboardInterrupt
        assert guard.crashes == crashes
    left.write_text(at_work)
    (tmp_path / "boot").write_text("a later one")  # whose counters begin anew
    monkeypatch.setattr(nas.runtimes.oom_kills, "BOOT_ID", tmp_path / "boot")
    with crash_guard(folder, "work") as guard:
        assert guard.crashes == ("out of memory",)


@pytest.mark.parametrize("content", ["", "{", "\x00" * 50, '{"oom_kills": null}\n', '{"oom_kills": [1]}\nSegmentation'])
def test_a_file_that_the_system_cut_off_says_nothing(folder: RunFolder, content: str) -> None:
    (folder.path / "locks" / "work.fault").write_text(content)
    with crash_guard(folder, "work") as guard:
        assert guard.crashes == ()


def test_progress_resets_the_count(folder: RunFolder) -> None:
    crash(folder, "work", 1)
    die(
        folder, GUARD, (f"with crash_guard(folder, 'work') as guard:\n    guard.record_progress()\n    {SEGFAULT}", -11)
    )

    def interrupted() -> None:
        with crash_guard(folder, "work") as guard:
            assert guard.crashes == ("SIGSEGV",)
            guard.record_progress()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with crash_guard(folder, "work") as guard:
        assert guard.crashes == ()


def test_the_fault_handler_of_the_process_comes_back(folder: RunFolder) -> None:
    was_enabled = faulthandler.is_enabled()
    try:
        for enabled in (False, True):
            faulthandler.enable(sys.__stderr__) if enabled else faulthandler.disable()
            with crash_guard(folder, "one"), crash_guard(folder, "two"):
                assert faulthandler.is_enabled()
            assert faulthandler.is_enabled() is enabled
    finally:
        faulthandler.enable(sys.__stderr__) if was_enabled else faulthandler.disable()


def test_trial_whose_sampling_crashes_is_failed_and_the_next_one_asked(tmp_path: Path) -> None:
    """A sampler that crashes: two processes die over trial 0, whose gene values are never complete."""
    study = a_study(tmp_path)
    crashing = f"{STUDY}\nfrom nas.searcher.study import Study\nStudy._suggest = lambda *_: os.abort()"
    die(study.folder, crashing, *[("a_study(runs).ask(ExitStack())", -signal.SIGABRT)] * MAX_CRASHES)
    with ExitStack() as held:
        assert a_study(tmp_path).ask(held).number == 1
    first = trials_of(study.folder)[0]
    assert (first.state, first.user_attrs["reason"]) == (
        TrialState.FAIL,
        "it crashed its process 2 times: SIGABRT, SIGABRT",
    )


def test_stale_trial_is_asked_again_however_often_its_process_was_killed(tmp_path: Path) -> None:
    study = a_study(tmp_path)
    killed = ("held = ExitStack()\na_study(runs).ask(held)\nos.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL)
    die(study.folder, STUDY, *[killed] * (2 * MAX_CRASHES))
    with ExitStack() as held:
        ask = a_study(tmp_path).ask(held)
        assert (ask.number, ask.crash_guard.crashes, ask.crash_guard.should_skip) == (0, (), False)
        assert set(ask.picked) == {"width", "operation"}
    assert files(study.folder) == []


def test_candidate_that_crashes_twice_is_failed_and_the_search_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "synthetic-plain-jetson")
    code = f"""
make_quick(pytest.MonkeyPatch())
import_module("nas.searcher.assembly").load_data = lambda *_, **__: FACES
def crash(*_, **__): {SEGFAULT}
Evaluator.evaluate = crash
search(make_config(**(TINY | {{"runs": runs, "trials": 2}})))
"""
    die(folder, SEARCH, *[(code, -signal.SIGSEGV)] * MAX_CRASHES)
    assert folder.records() == []
    make_quick(monkeypatch)
    module: Any = import_module("nas.searcher.searcher")
    monkeypatch.setattr(ASSEMBLY, "load_data", lambda *_, **__: FACES)
    monkeypatch.setattr(module, "write_report", lambda folders, path: path.write_text("<html>"))
    module.search(make_config(**(TINY | {"runs": tmp_path, "trials": 2})))
    first, second = folder.records()
    assert (first.trial, first.status, first.reason) == (0, "failed", ABANDONED)
    assert (second.trial, second.status) == (1, "complete")
    assert [t.state for t in trials_of(folder)][:2] == [TrialState.FAIL, TrialState.COMPLETE]
    assert files(folder) == []
