"""Tasks in the driver's own process, one at a time: for tests and debugging. A crash of a task ends the search."""

import tempfile
from contextlib import ExitStack
from pathlib import Path

from nas.config import RunFields
from nas.errors import ConfigError
from nas.evaluation.evaluator import Evaluator
from nas.latency.measured.reference_cache import reference_cache_path
from nas.latency.measured.worker import TimingWorker
from nas.searcher.executor import Executor, OnLog, Outcome, Task
from nas.searcher.worker import Worker


class InlineExecutor(Executor):
    """Runs each task where `wait` is called."""

    n_workers = 1

    def __init__(self, options: RunFields, on_log: OnLog) -> None:
        if options.workers > 1:
            raise ConfigError(f"the executor inline has 1 worker, but workers is {options.workers}; use processes")
        self._on_log = on_log
        self._stack = ExitStack()
        self._worker: Worker | None = None
        self._task: Task | None = None

    def configure(self, evaluator: Evaluator) -> None:
        """Give the worker this evaluator for the tasks that follow."""
        self._stack.close()
        scratch = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="fer-nas-")))
        timing_worker = self._stack.enter_context(TimingWorker(reference_cache=reference_cache_path()))
        self._worker = Worker(evaluator, scratch=scratch, log=self._log, timing_worker=timing_worker)

    def submit(self, task: Task) -> None:
        """Keep the task for `wait`."""
        self._task = task

    def wait(self, timeout_s: float) -> Outcome | None:
        """Run the task, however long it takes."""
        task, worker = self._task, self._worker
        if task is None or worker is None:
            return None
        try:
            return Outcome(task=task, result=worker.run(task))
        except Exception as error:
            return Outcome(task=task, error=error)
        finally:
            self._task = None

    def close(self) -> None:
        """End the process that times files."""
        self._stack.close()

    def _log(self, line: str) -> None:
        if self._task is not None:
            self._on_log(self._task, line)


EXECUTOR = InlineExecutor
