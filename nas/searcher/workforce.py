"""Workforce: takes flows forward, whose steps workers take, and decides what the death of a worker means.

A flow is a generator of steps. It runs in the driver, which alone decides and writes; what takes time or may crash is a
step. A worker that crashes twice at one step of a candidate shows that the step is to blame, and the flow gets a
`WorkerDeathError`. Whatever else ends a worker is an interruption: the step is repeated, as it is by a driver that
resumes the run.

    runs/NAME/crashes.jsonl    one line for each crash: work, cause
"""

import json
import logging
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from nas.errors import WorkerDeathError
from nas.pipeline import Step
from nas.results.run_folder import RunFolder
from nas.searcher.executor import Death, Executor, Outcome, Task, TaskResult

logger = logging.getLogger(__name__)

CRASHES_FILE = "crashes.jsonl"
MAX_CRASHES = 2
"""Crashes of one step of a candidate after which the step is to blame."""
MAX_INTERRUPTIONS = 20
"""Workers that end in a row without a task done, after which something on the machine must be found that kills them."""
WAIT_S = 1.0
"""Seconds between two signs of life to the caller, at most."""
Steps = Generator[Step, Any, None]
_CRASHED = "it crashed its process"


class _Crash(BaseModel):
    """Form of a line of crashes.jsonl."""

    work: str
    cause: str


def is_abandoned(reason: str) -> bool:
    """Whether the reason of a failed record is that of abandoned work."""
    return reason.startswith(_CRASHED)


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Work that consists of steps.

    Attributes:
        name: for people, such as "trial 3".
        key: of the work; crashes are counted by key and step.
        steps: yields each step, and receives what it returned, or the exception that it raised.
    """

    name: str
    key: str
    steps: Steps


class Workforce:
    """Takes flows forward on an executor.

    Life: made; `run` any number of times.

    Args:
        executor: has been configured.
        folder: the run; the files that steps read and make are there.
        training_s: returns the seconds until training has to end; None without a time limit.
        on_wait: called about once a second while workers are busy.
    """

    def __init__(
        self,
        executor: Executor,
        folder: RunFolder,
        *,
        training_s: Callable[[], float | None],
        on_wait: Callable[[], None],
    ) -> None:
        self._executor, self._folder = executor, folder
        self._training_s, self._on_wait = training_s, on_wait
        lines = folder.json_lines(CRASHES_FILE, _Crash)
        self._crashes: dict[str, list[str]] = {}
        for line in lines:
            self._crashes.setdefault(line["work"], []).append(line["cause"])
        self._under_way: dict[int, Flow] = {}
        self._n_interruptions = 0

    def run(self, next_flow: Callable[[], Flow | None]) -> None:
        """Take flows to their end, those that have begun before new ones.

        Args:
            next_flow: returns another flow; None where there is none at the moment. It is asked again after each step,
                and `run` ends where it has none and no flow is under way.

        Raises:
            Exception: what a flow does not handle.
            ChildProcessError: something keeps killing the workers.
        """
        ready: deque[tuple[Flow, Any]] = deque()
        while True:
            while len(self._under_way) < self._executor.n_workers:
                if ready:
                    flow, result = ready.popleft()
                elif (new := next_flow()) is not None:
                    flow, result = new, None
                else:
                    break
                self._advance(flow, result)
            if not self._under_way:
                return
            if (outcome := self._executor.wait(WAIT_S)) is None:
                self._on_wait()
                continue
            flow = self._under_way.pop(id(outcome.task))
            self._n_interruptions = 0 if outcome.death is None else self._n_interruptions
            if outcome.result is not None and outcome.result.is_paused:
                self._write_files(outcome.result)
                self._submit(flow, outcome.task.step)
            elif outcome.death is None:
                ready.append((flow, self._accept(outcome)))
            elif (crashes := self._count_death(flow, outcome.task.step, outcome.death)) is not None:
                ready.append((flow, _abandonment(crashes)))
            else:
                self._submit(flow, outcome.task.step)

    @property
    def n_under_way(self) -> int:
        """Flows of which a worker takes a step now."""
        return len(self._under_way)

    def _advance(self, flow: Flow, result: Any) -> None:
        """Hand a flow the result of its last step, and submit its next one."""
        while True:
            try:
                step = flow.steps.throw(result) if isinstance(result, BaseException) else flow.steps.send(result)
            except StopIteration:
                return None
            if len(crashes := self._crashes.get(_work(flow, step), [])) < MAX_CRASHES:
                return self._submit(flow, step)
            result = _abandonment(crashes)

    def _submit(self, flow: Flow, step: Step) -> None:
        task = Task(
            name=f"{flow.name}, {step.name}", step=step, files=self._read_files(step), seconds_left=self._training_s()
        )
        self._under_way[id(task)] = flow
        self._executor.submit(task)

    def _accept(self, outcome: Outcome) -> Any:
        """The value or the exception of a step, whose files are written first."""
        if outcome.result is None:
            return outcome.error
        self._write_files(outcome.result)
        return outcome.result.value

    def _count_death(self, flow: Flow, step: Step, death: Death) -> list[str] | None:
        """The crashes of a step that is to blame; None where it is to be repeated."""
        if not death.is_crash:
            self._n_interruptions += 1
            if self._n_interruptions >= MAX_INTERRUPTIONS:
                raise ChildProcessError(
                    f"the workers must live, but {self._n_interruptions} in a row were ended by {death.cause}"
                )
            return None
        work = _work(flow, step)
        logger.warning("%s, %s crashed the process that was at it: %s", flow.name, step.name, death.cause)
        self._folder.append_line(CRASHES_FILE, json.dumps({"work": work, "cause": death.cause}))
        crashes = self._crashes.setdefault(work, [])
        crashes.append(death.cause)
        return crashes if len(crashes) >= MAX_CRASHES else None

    def _read_files(self, step: Step) -> dict[str, bytes]:
        root = self._folder.path
        paths = {path for pattern in step.files for path in root.glob(pattern) if path.is_file()}
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(paths)}

    def _write_files(self, result: TaskResult) -> None:
        for name, content in sorted(result.files.items()):  # base/weights.pt last: where it exists, all is complete
            (self._folder.path / name).parent.mkdir(parents=True, exist_ok=True)
            self._folder.write(name, content)
        for name, text in result.lines.items():
            for line in text.splitlines():
                self._folder.append_line(name, line)
        for name in result.removed:
            (self._folder.path / name).unlink(missing_ok=True)


def _work(flow: Flow, step: Step) -> str:
    return f"{flow.key} {step.name}"


def _abandonment(crashes: list[str]) -> WorkerDeathError:
    reason = f"{_CRASHED} {len(crashes)} times: {', '.join(crashes)}"
    return WorkerDeathError(reason, cause=crashes[-1], is_crash=True)
