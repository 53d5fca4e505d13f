"""Workforce: flows go forward step by step, interruptions repeat a step, and two crashes end its flow."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from nas.errors import WorkerDeathError
from nas.pipeline import Step
from nas.searcher.executor import Death, Outcome, Task, TaskResult
from nas.searcher.workforce import MAX_INTERRUPTIONS, Flow, Steps, Workforce, is_abandoned
from tests.fake_runs import a_run

CRASH, KILL = Death(cause="SIGSEGV", is_crash=True), Death(cause="SIGKILL", is_crash=False)


class Fake:
    """An executor whose tasks end in the order of `ends`, each with a death, an exception or the step's value."""

    def __init__(self, ends: Sequence[Any] = (), n_workers: int = 1) -> None:
        self.ends, self.n_workers, self.tasks, self.most = list(ends), n_workers, list[Task](), 0

    def submit(self, task: Task) -> None:
        self.tasks.append(task)
        self.most = max(self.most, len(self.tasks))

    def wait(self, timeout_s: float) -> Outcome:
        task, end = self.tasks.pop(), self.ends.pop(0) if self.ends else None
        if isinstance(end, Death):
            return Outcome(task=task, death=end)
        if isinstance(end, Exception):
            return Outcome(task=task, error=end)
        value = task.step.function(task, **task.step.arguments)
        files = {"models/a.txt": bytes(str(value), "ascii")}
        result = TaskResult(value=value, files=files, removed=("models/old.txt",), lines={"x.jsonl": f"{value}\n"})
        return Outcome(task=task, result=result)


def double(task: Task, *, value: int) -> int:
    return 2 * value


def a_flow(found: list[Any], value: int = 1, n_steps: int = 2, key: str = "k") -> Flow:
    def steps() -> Steps:
        now = value
        try:
            for number in range(n_steps):
                step = Step(name=f"{number}", function=double, arguments={"value": now}, files=("models/*", "x.jsonl"))
                now = yield step
        except WorkerDeathError as death:
            found.append(str(death))
        else:
            found.append(now)

    return Flow(name="a flow", key=key, steps=steps())


@pytest.fixture
def go(tmp_path: Path) -> Callable[..., list[Any]]:
    def go(executor: Fake, n_flows: int = 1) -> list[Any]:
        found: list[Any] = []
        folder = a_run(tmp_path, records=[])
        flows = [a_flow(found, value + 1) for value in range(n_flows)]
        workforce = Workforce(executor, folder, training_s=lambda: 7.0, on_wait=lambda: None)  # type: ignore[arg-type]
        workforce.run(lambda: flows.pop(0) if flows else None)
        return found

    return go


def test_flows_end_with_the_values_of_their_steps_and_the_run_has_their_files(
    go: Callable[..., list[Any]], tmp_path: Path
) -> None:
    folder = a_run(tmp_path, records=[])
    (folder.path / "models" / "old.txt").write_text("old")
    executor = Fake()
    assert go(executor, n_flows=2) == [4, 8]
    assert (folder.path / "models" / "a.txt").read_text() == "8"
    assert not (folder.path / "models" / "old.txt").exists()
    assert (folder.path / "x.jsonl").read_text().split() == ["2", "4", "4", "8"]


def test_a_step_gets_its_files_and_the_time_that_is_left(tmp_path: Path, go: Callable[..., list[Any]]) -> None:
    executor = Fake([ValueError("stop here")])
    (a_run(tmp_path, records=[]).path / "models" / "a.txt").write_text("5")
    tasks: list[Task] = []
    executor.submit = lambda task: (tasks.append(task), executor.tasks.append(task))[0]  # type: ignore[method-assign, func-returns-value]
    with pytest.raises(ValueError, match="stop here"):
        go(executor)
    assert (tasks[0].files, tasks[0].seconds_left) == ({"models/a.txt": b"5"}, 7.0)


def test_as_many_steps_are_under_way_as_there_are_workers(go: Callable[..., list[Any]]) -> None:
    executor = Fake(n_workers=3)
    assert sorted(go(executor, n_flows=7)) == [4 * (value + 1) for value in range(7)]
    assert executor.most == 3


def test_interruptions_repeat_the_step_however_many(go: Callable[..., list[Any]]) -> None:
    kills = [KILL] * (MAX_INTERRUPTIONS - 1)
    assert go(Fake([*kills, None, *kills])) == [4]


def test_workers_that_are_always_killed_end_the_search(go: Callable[..., list[Any]]) -> None:
    with pytest.raises(ChildProcessError, match=rf"must live, but {MAX_INTERRUPTIONS} in a row were ended by SIGKILL"):
        go(Fake([KILL] * MAX_INTERRUPTIONS))


def test_a_step_that_crashes_twice_ends_its_flow_also_in_two_drivers(go: Callable[..., list[Any]]) -> None:
    with pytest.raises(KeyError):
        go(Fake([CRASH, KeyError("the first driver ends")]))
    (reason,) = go(Fake([KILL, CRASH]))
    assert reason == "it crashed its process 2 times: SIGSEGV, SIGSEGV"
    assert is_abandoned(reason)
    assert go(Fake([])) == [reason], "for good"


def test_one_crash_of_each_step_is_no_reason_to_give_up(go: Callable[..., list[Any]]) -> None:
    assert go(Fake([CRASH, None, CRASH])) == [4]
