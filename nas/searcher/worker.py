"""Worker: takes the steps of tasks, each in an empty folder that holds the task's files and nothing else.

The folder stands in for the run folder, so that a step neither knows nor cares on which machine it runs.
"""

import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from nas.data.base import FaceData
from nas.errors import StepPausedError
from nas.evaluation.evaluator import Evaluator
from nas.latency.measured.quiet_host import QuietHost
from nas.latency.measured.worker import TimingWorker
from nas.models.user_model import load_user_model
from nas.registry import load
from nas.results.run_folder import RunFolder
from nas.searcher.executor import Task, TaskResult
from nas.training.trainer import ShouldStop, never
from search_spaces._base import SearchSpace

SEGMENT_S = 120.0
"""Seconds after which a training pauses and hands its state to the driver: so much is lost with a worker, at most."""
FOLDERS = ("models", "checkpoints", "base/checkpoints", "teacher")


class Worker:
    """Runs tasks, one at a time, with the evaluator of a run.

    Args:
        evaluator: of the run; its folder and log are replaced.
        scratch: folder for the files of tasks.
        log: receives one line about each step.
        timing_worker: times files in a process of its own; None times them in this one.
        quiet_host: lets the workers of this host hold still while one of them times a file; None where there is none
            but this one.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        *,
        scratch: Path,
        log: Callable[[str], None],
        timing_worker: TimingWorker | None,
        quiet_host: QuietHost | None = None,
    ) -> None:
        self._scratch, self._quiet_host = scratch, quiet_host
        self._evaluator = replace(evaluator, log=log, timing_worker=timing_worker, quiet_host=quiet_host)

    def run(self, task: Task) -> TaskResult:
        """Take the step of a task.

        Raises:
            NasError, OSError, MemoryError: as the step does.
        """
        with tempfile.TemporaryDirectory(dir=self._scratch) as place:
            folder = Path(place)
            for name in FOLDERS:
                (folder / name).mkdir(parents=True)
            for name, content in task.files.items():
                (folder / name).write_bytes(content)
            pause_time = time.monotonic() + SEGMENT_S
            evaluator = replace(
                self._evaluator, folder=RunFolder(folder), should_pause=lambda: time.monotonic() > pause_time
            )
            stop = self._make_stop(task.seconds_left)
            try:
                with nullcontext() if self._quiet_host is None else self._quiet_host.working():
                    value = task.step.function(evaluator, stop=stop, **task.step.arguments)
            except StepPausedError as pause:
                self._evaluator.log(str(pause))
                return replace(_collect(folder, task.files, None), is_paused=True)
            return _collect(folder, task.files, value)

    def _make_stop(self, seconds_left: float | None) -> ShouldStop | None:
        """What training asks before each step; a moment for others to time their files, too."""
        end = None if seconds_left is None else time.monotonic() + seconds_left
        quiet_host = self._quiet_host
        if quiet_host is None:
            return None if end is None else lambda: time.monotonic() > end

        def stop() -> bool:
            quiet_host.make_way()
            return end is not None and time.monotonic() > end

        return stop


@dataclass(frozen=True, kw_only=True)
class PickledEvaluator:
    """An evaluator on its way to another process, which loads the search space itself: a user's model is code.

    Attributes:
        evaluator: without folder, log and timing worker.
        data: of the run.
    """

    evaluator: Evaluator
    data: FaceData

    @classmethod
    def of(cls, evaluator: Evaluator) -> "PickledEvaluator":
        """The form of an evaluator that can be pickled."""
        bare = replace(
            evaluator,
            log=ignore,
            timing_worker=None,
            quiet_host=None,
            should_pause=never,
            folder=RunFolder(Path()),
            space=None,  # type: ignore[arg-type]
        )
        return cls(evaluator=bare, data=evaluator.data)

    def restore(self) -> Evaluator:
        """The evaluator, with its search space.

        Raises:
            UserError: the user's model cannot be loaded here.
        """
        config, profile = self.evaluator.config, self.evaluator.profile
        space: SearchSpace = (
            load_user_model(config, self.data, channel_multiple=profile.channel_multiple)
            if config.search.model
            else load("space", config.search.space)
        )
        return replace(self.evaluator, space=space)


def ignore(line: str) -> None:
    """Drop a line of the log."""


def _collect(folder: Path, given: Mapping[str, bytes], value: object) -> TaskResult:
    """The result of a step, from what it left in the folder."""
    # Locks are of this process; they tell the driver nothing.
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    paths = [path for path in paths if path.parent != folder / "locks"]
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    lines = {
        name: content[len(given.get(name, b"")) :].decode()
        for name, content in found.items()
        if name.endswith(".jsonl")
    }
    return TaskResult(
        value=value,
        files={n: c for n, c in found.items() if n not in lines and given.get(n) != c},
        removed=tuple(name for name in given if name not in found),
        lines={name: text for name, text in lines.items() if text},
    )
