"""Tasks on a Ray cluster (https://docs.ray.io): one that runs already, or one on this machine only.

A task of Ray holds the CPUs, the GPU and the device that its step needs, and hands the step to a worker process of its
own on that node, see `process_pool`. So limits, logs and signals are those of one machine, and Ray itself tells which
nodes are lost. Ray keeps its processes for further tasks, and each of them its worker with the data.

No task is repeated by Ray: the driver decides what a death means.
"""

import contextlib
import errno
import hashlib
import logging
import math
import os
import pickle
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from nas.config import RunFields
from nas.errors import ConfigError, MissingPackageError, one_line
from nas.evaluation.evaluator import Evaluator
from nas.searcher.executor import Death, Executor, OnLog, Outcome, Task
from nas.searcher.process_pool import ProcessPool
from nas.searcher.worker import PickledEvaluator
from nas.searcher.worker_process import Forwarder

logger = logging.getLogger(__name__)

INSTALL_COMMAND = "pip install 'fer-nas[ray]'"
LOG_S = 0.5
"""Seconds between two deliveries of a task's log lines, at most."""
COUNT_S = 10.0
"""Seconds between two looks at which nodes there are."""
PACKAGES = ("nas", "search_spaces", "hw_profiles")
_ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a cluster is divided among workers.

    Attributes:
        n_workers: tasks at once.
        threads: CPUs of each.
        gpus: GPUs of each, or a share of one; 0 trains on CPUs.
    """

    n_workers: int
    threads: int
    gpus: float


def plan_workers(nodes: Sequence[Mapping[str, float]], options: RunFields) -> Plan:
    """Divide the nodes of a cluster among workers.

    Without `threads`, each node has one worker, which takes as many CPUs as the smallest node has; or as many as
    `workers` leave to each.

    Args:
        nodes: resources of each node, such as `{"CPU": 8.0, "GPU": 1.0}`.
        options: workers, threads and training device.

    Examples:
        >>> plan_workers([{"CPU": 8.0}, {"CPU": 4.0}], RunFields(threads=2))
        Plan(n_workers=6, threads=2, gpus=0.0)
        >>> plan_workers([{"CPU": 8.0, "GPU": 1.0}], RunFields(workers=4))
        Plan(n_workers=4, threads=2, gpus=0.25)
    """
    cpus = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1] or [1]
    n_gpus = int(sum(node.get("GPU", 0) for node in nodes))
    uses_gpus = options.device == "cuda" or (options.device == "auto" and n_gpus > 0)
    if not options.threads and options.workers:
        threads = max(1, min(max(cpus), sum(cpus) // options.workers))
    else:
        threads = options.threads or min(cpus)
    n_fitting = n_gpus if uses_gpus else sum(count // threads for count in cpus)
    n_workers = options.workers or max(1, n_fitting)
    # Ray counts in parts of 1/10,000; rounded up, three shares of 1/3 would not fit on one GPU.
    share = 10_000 // math.ceil(n_workers / max(1, n_gpus)) / 10_000 if uses_gpus else 0.0
    return Plan(n_workers=n_workers, threads=threads, gpus=share)


class RayExecutor(Executor):
    """Hands tasks to a Ray cluster. Nodes that join are used, and nodes that are lost cost their tasks one more try."""

    def __init__(self, options: RunFields, on_log: OnLog) -> None:
        self._ray = _import_ray()
        self._options, self._on_log = options, on_log
        self._address = options.address or "local"
        self._is_client = self._address.startswith("ray://")
        self.n_workers = max(1, options.workers)
        self._plan = Plan(n_workers=self.n_workers, threads=1, gpus=0.0)
        self._is_connected, self._owns_connection, self._counted_s = False, False, 0.0
        self._tasks: dict[Any, Task] = {}
        self._function: Any = None
        self._reference: Any = None
        self._digest, self._target, self._is_on_host = "", "", False

    def configure(self, evaluator: Evaluator) -> None:
        """Put the evaluator into the object store, from which each worker takes it once.

        Raises:
            ConfigError: there is no cluster at the address, or none that the options suit.
        """
        self._connect()
        self._count_nodes()
        self._target = evaluator.config.search.target
        self._is_on_host = evaluator.profile.local and evaluator.device_runtime is None
        self._check_host_target()
        # All nodes train with as many threads as their tasks hold CPUs, whatever number of cores each has.
        run = evaluator.config.run.model_copy(update={"threads": self._plan.threads})
        config = evaluator.config.model_copy(update={"run": run})
        content = pickle.dumps(PickledEvaluator.of(replace(evaluator, config=config)))
        self._reference, self._digest = self._ray.put(content), hashlib.sha256(content).hexdigest()

    def submit(self, task: Task) -> None:
        """Hand a task to the cluster, which begins it where there is room."""
        function = self._function.options(name=task.name, **self._demand(task))
        # The reference is within a list, so that Ray does not fetch the evaluator anew for each task.
        stream = function.remote([self._reference], self._digest, task, self._options, str(Path.cwd()))
        self._tasks[stream] = task

    def wait(self, timeout_s: float) -> Outcome | None:
        """The next outcome; None where no task has ended within the time."""
        end = time.monotonic() + timeout_s
        if time.monotonic() - self._counted_s > COUNT_S:
            self._count_nodes()
        while self._tasks:
            ready, _ = self._ray.wait(list(self._tasks), timeout=max(0.0, end - time.monotonic()))
            if not ready:
                return None
            if (outcome := self._read(ready[0])) is not None:
                return outcome
        return None

    def close(self) -> None:
        """End all tasks, and Ray itself where it was started for this run."""
        for stream in self._tasks:
            with contextlib.suppress(Exception):  # its node may be gone
                self._ray.cancel(stream, force=True)
        self._tasks = {}
        if self._owns_connection:
            self._ray.shutdown()
        self._is_connected = self._owns_connection = False

    def _connect(self) -> None:
        if self._is_connected:
            return
        if not self._ray.is_initialized():
            fields: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
            if self._address == "local":
                wanted = self._options.workers * max(1, self._options.threads)
                fields |= {"num_cpus": max(wanted, os.cpu_count() or 1), "include_dashboard": False}
            else:
                packages = [str(_ROOT / name) for name in PACKAGES]
                fields["runtime_env"] = {"py_modules": packages, "excludes": ["**/__pycache__/**"]}
            try:
                self._ray.init(self._address, **fields)
            except (self._ray.exceptions.RayError, RuntimeError, ValueError, OSError) as error:
                what = one_line(error).rstrip(".")
                raise ConfigError(
                    f"address must be that of a Ray cluster, but with {self._address!r}: {what}; "
                    "to start one: ray start --head"
                ) from None
            self._owns_connection = True
        # One function object for all tasks: Ray lends its processes on to tasks of the same one.
        remote = self._ray.remote(max_retries=0, **({} if self._is_client else {"num_returns": "streaming"}))
        self._function = remote(take_at_once if self._is_client else take)
        self._is_connected = True

    def _count_nodes(self) -> None:
        self._counted_s = time.monotonic()
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        threads = self._options.threads or (self._plan.threads if self._digest else 0)  # a running search keeps its own
        self._plan = plan_workers(nodes, self._options.model_copy(update={"threads": threads}))
        self.n_workers = self._plan.n_workers
        threads, gpus = self._plan.threads, self._plan.gpus
        if not self._digest and all(n.get("CPU", 0) < threads or n.get("GPU", 0) < gpus for n in nodes):
            needs = f"{threads} CPUs" + (" and a GPU" if gpus else "")
            logger.warning("no node of the Ray cluster has %s as yet; tasks wait for one that has", needs)

    def _check_host_target(self) -> None:
        """Refuse a host that should be timed, but on which Ray would never begin a task.

        Raises:
            ConfigError: this host has too few CPUs in the cluster, or is no part of it.
        """
        if not self._is_on_host or self._target in self._ray.cluster_resources():
            return
        own = self._own_node()
        has = [n["Resources"].get("CPU", 0) for n in self._ray.nodes() if n["Alive"] and n["NodeID"] == own]
        if self._is_client or not has or has[0] < self._plan.threads:
            what = "is not part of it" if self._is_client or not has else f"has {has[0]:g} there"
            raise ConfigError(
                f"target {self._target} is timed on this machine, which must have {self._plan.threads} CPUs in the Ray "
                f"cluster, but {what}; or start the nodes to time on, of one kind, with "
                f"ray start --resources='{{\"{self._target}\": 8}}'"
            )

    def _demand(self, task: Task) -> dict[str, Any]:
        """What a task holds while it runs.

        A step that may time files holds the resource named after the target: one board, or nodes of one kind. Without
        that resource, this machine is timed by tasks on this machine only.
        """
        demand: dict[str, Any] = {"num_cpus": self._plan.threads, "num_gpus": self._plan.gpus}
        if task.step.measures:
            if self._target in self._ray.cluster_resources():
                demand["resources"] = {self._target: 1}
            elif self._is_on_host:
                strategies = self._ray.util.scheduling_strategies
                demand["scheduling_strategy"] = strategies.NodeAffinitySchedulingStrategy(self._own_node(), soft=False)
        return demand

    def _own_node(self) -> str:
        node: str = self._ray.get_runtime_context().get_node_id()
        return node

    def _read(self, stream: Any) -> Outcome | None:
        """Read on in what a task sends; None where it has not ended."""
        task = self._tasks[stream]
        try:
            messages = self._ray.get(stream if self._is_client else [next(stream)])
        except (self._ray.exceptions.RayError, StopIteration) as error:
            del self._tasks[stream]
            return self._describe_failure(task, error)
        for message in messages:
            match message:
                case ("log", line):
                    self._on_log(task, line)
                case ("warning", name, level, line):
                    logging.getLogger(name).log(level, "%s", line)
                case ("outcome", result, error, death):
                    del self._tasks[stream]
                    return Outcome(task=task, result=result, error=error, death=death)
        return None

    def _describe_failure(self, task: Task, error: Exception) -> Outcome:
        """The outcome of a task that Ray could not bring to its end."""
        exceptions = self._ray.exceptions
        cause = getattr(error, "cause", None) or error
        text = f"{type(cause).__name__}: {one_line(cause, max_length=500)}"
        if isinstance(error, (exceptions.OutOfDiskError, exceptions.ObjectStoreFullError)):
            return Outcome(task=task, error=OSError(errno.ENOSPC, f"no room in Ray's object store: {text}"))
        if isinstance(error, (exceptions.RayTaskError, exceptions.RuntimeEnvSetupError)):
            advice = "all nodes must have this machine's versions of Python and of the packages"
            return Outcome(task=task, error=ConfigError(f"a Ray worker cannot take tasks: {text}; {advice}"))
        if isinstance(error, exceptions.OutOfMemoryError):
            return Outcome(task=task, death=Death(cause="out of memory", is_crash=True))
        return Outcome(task=task, death=Death(cause=f"{type(error).__name__} of Ray", is_crash=False))


class _NodeWorker:
    """What a process of Ray keeps between its tasks: one worker process, and what that has said."""

    def __init__(self, options: RunFields) -> None:
        self._messages: list[tuple[Any, ...]] = []
        self._executor = ProcessPool(options, lambda _, line: self._messages.append(("log", line)))
        self._digest = ""
        logging.getLogger().addHandler(Forwarder(lambda *message: self._messages.append(message)))

    def take(self, evaluator: Sequence[Any], digest: str, task: Task) -> Iterator[tuple[Any, ...]]:
        if self._digest != digest:
            self._executor.load(_import_ray().get(evaluator[0]))
            self._digest = digest
        self._executor.submit(task)
        outcome = None
        while outcome is None:
            outcome = self._executor.wait(LOG_S)
            while self._messages:  # one by one: Ray drives a generator by `send`, which an iterator lacks
                yield self._messages.pop(0)
        yield "outcome", outcome.result, outcome.error, outcome.death


_node_worker = cache(_NodeWorker)


def take(
    evaluator: Sequence[Any], digest: str, task: Task, options: RunFields, folder: str
) -> Iterator[tuple[Any, ...]]:
    """Take a task in a process of Ray.

    Args:
        evaluator: reference to the pickle of the evaluator.
        digest: of that pickle.
        task: which one.
        options: of the run.
        folder: working directory of the driver; a user's model is imported from there, where there is such a folder.

    Yields:
        Messages, as a worker process sends them; at last `("outcome", result, error, death)`.
    """
    with contextlib.suppress(OSError):
        os.chdir(folder)
    yield from _node_worker(options).take(evaluator, digest, task)


def take_at_once(
    evaluator: Sequence[Any], digest: str, task: Task, options: RunFields, folder: str
) -> list[tuple[Any, ...]]:
    """All that `take` yields, at the end: Ray's client, `ray://`, knows no generators."""
    return list(take(evaluator, digest, task, options, folder))


def _import_ray() -> Any:
    """The package.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        import ray
        import ray.util.scheduling_strategies
    except ImportError:
        raise MissingPackageError(
            f"the executor ray needs ray, which is not installed; type: {INSTALL_COMMAND}"
        ) from None
    return ray


EXECUTOR = RayExecutor
