"""Contract of the executors: every task is answered once, files go there and back, and deaths are told."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nas.searcher.process_pool
from nas import registry
from nas.config import RunFields
from nas.errors import ConfigError, ExportError
from nas.evaluation.evaluator import Evaluator
from nas.pipeline import Step
from nas.searcher.executor import Executor, Outcome, Task
from tests.conftest import learnable_faces
from tests.tiny_evaluator import an_evaluator
from tests.worker_steps import add, ask_to_stop, end, fail, hold

EXECUTORS = ("inline", "processes", "ray")
PATIENCE_S = 120.0


def wait(executor: Executor) -> Outcome:
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        if (outcome := executor.wait(1.0)) is not None:
            return outcome
    raise AssertionError("no outcome")


def a_task(function: Callable[..., Any], files: dict[str, bytes] | None = None, **arguments: Any) -> Task:
    return Task(name="a task", step=Step(name="a step", function=function, arguments=arguments), files=files or {})


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory) -> Evaluator:
    return an_evaluator(tmp_path_factory.mktemp("run"), learnable_faces(train=24, val=8))


@pytest.fixture(scope="module", params=EXECUTORS)
def executor(request: pytest.FixtureRequest, evaluator: Evaluator) -> Iterator[Executor]:
    if request.param == "ray":
        pytest.importorskip("ray", reason="needs ray: pip install 'fer-nas[ray]'")
    options = RunFields(threads=1, workers=1, executor=request.param)
    made: Executor = registry.load("executor", request.param)(options, lambda task, line: LOG.append((task, line)))
    made.configure(evaluator)
    yield made
    made.close()


LOG: list[tuple[Task, str]] = []


def test_values_and_files_go_there_and_back(executor: Executor, evaluator: Evaluator) -> None:
    before = sorted(evaluator.folder.path.rglob("*"))
    task = a_task(add, {"checkpoints/a.txt": b"4", "lines.jsonl": b'{"value": 1}\n'}, value=3)
    executor.submit(task)
    outcome = wait(executor)
    assert outcome.task is task
    assert outcome.error is None
    assert outcome.result is not None
    assert outcome.result.value == 3 + 24
    assert outcome.result.files == {"models/sum.txt": b"7"}
    assert outcome.result.removed == ("checkpoints/a.txt",)
    assert outcome.result.lines == {"lines.jsonl": '{"value": 3}\n'}
    assert (task, "adds 3") in LOG
    assert sorted(evaluator.folder.path.rglob("*")) == before, "no worker touches the run folder"
    assert executor.wait(0.01) is None


@pytest.mark.parametrize(
    "error", [ExportError("no file"), OSError(28, "No space left"), ValueError("a fault")], ids=repr
)
def test_exception_of_a_step_comes_back_and_the_worker_lives_on(executor: Executor, error: Exception) -> None:
    executor.submit(a_task(fail, error=error))
    outcome = wait(executor)
    assert (type(outcome.error), str(outcome.error)) == (type(error), str(error))
    executor.submit(a_task(add, {"checkpoints/a.txt": b"0"}, value=1))
    assert wait(executor).result is not None


def test_training_is_told_when_its_time_is_over(executor: Executor) -> None:
    for seconds, is_over in ((-1.0, True), (600.0, False)):
        executor.submit(Task(name="a", step=Step(name="a", function=ask_to_stop, arguments={}), seconds_left=seconds))
        outcome = wait(executor)
        assert outcome.result is not None
        assert outcome.result.value is is_over


@pytest.fixture
def processes(evaluator: Evaluator) -> Iterator[Callable[..., Executor]]:
    made: list[Executor] = []

    def make(**options: Any) -> Executor:
        made.append(registry.load("executor", "processes")(RunFields(threads=1, **options), lambda *_: None))
        made[-1].configure(evaluator)
        return made[-1]

    yield make
    for executor in made:
        executor.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals that end a process")
def test_death_of_a_worker_is_told_by_its_signal_and_the_next_task_has_another(
    processes: Callable[..., Executor],
) -> None:
    executor = processes(workers=1)
    for number, cause, is_crash in ((signal.SIGSEGV, "SIGSEGV", True), (signal.SIGKILL, "SIGKILL", False)):
        executor.submit(a_task(end, number=number))
        death = wait(executor).death
        assert death is not None
        assert (death.cause, death.is_crash) == (cause, is_crash)
    executor.submit(a_task(add, {"checkpoints/a.txt": b"0"}, value=1))
    assert wait(executor).result is not None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how much memory another process holds")
def test_worker_that_hangs_or_holds_too_much_memory_is_ended(
    processes: Callable[..., Executor], monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = processes(workers=1, worker_memory="1500MB")
    executor.submit(a_task(hold, megabytes=1800))
    death = wait(executor).death
    assert death is not None
    assert (death.cause, death.is_crash) == ("over its memory limit", True)
    monkeypatch.setattr(nas.searcher.process_pool, "SILENCE_LIMIT_S", 0.5)
    executor.submit(a_task(hold, megabytes=0))
    death = wait(executor).death
    assert death is not None
    assert (death.cause, death.is_crash) == ("over its time limit", True)


def test_workers_take_tasks_at_once_and_none_is_left_behind(
    processes: Callable[..., Executor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    executor: Any = processes(workers=2)
    assert executor.n_workers == 2
    for value in (1, 2):
        executor.submit(a_task(add, {"checkpoints/a.txt": b"0"}, value=value))
    results = [wait(executor).result for _ in range(2)]
    assert sorted(result.value for result in results if result is not None) == [25, 26]
    pids = [process.popen.pid for process in executor._processes]
    assert len(pids) == 2
    executor.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert not list(tmp_path.glob("fer-nas-*/tmp*"))


def test_inline_has_one_worker() -> None:
    with pytest.raises(ConfigError, match="the executor inline has 1 worker, but workers is 2; use processes"):
        registry.load("executor", "inline")(RunFields(workers=2), lambda *_: None)
