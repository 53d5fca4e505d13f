"""Worker process that does nothing but time files, so that work in the calling process cannot disturb a measurement.

The worker holds no torch and no threads but the runtime's, and may be pinned to cores. It starts at the first
measurement and ends with the process that started it, however that ends: it reads tasks from a pipe, one line of JSON
each, and exits when the pipe closes. A file that crashes the runtime costs one measurement, not the search.
"""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self, TypedDict

from nas import registry
from nas.errors import ConfigError, MeasureError, NasError, WorkerDeathError, find_system_error
from nas.latency.latency import Latency
from nas.latency.measured.timing import Shape, measure, measure_interleaved
from nas.latency.measured.timing_loop import TimingPlan
from nas.latency.measured.worker_death import describe_death
from nas.runtimes.base import Backend, Runtime
from nas.runtimes.oom_kills import read_oom_kills
from nas.runtimes.reference_network import remove_reference

TIME_LIMIT_S = 3600.0
"""Bound of the timing of one file without a bound of its own: 300 runs of 12 s."""
GRACE_S = 600.0
"""Seconds beyond a plan's own bound for loading, warming up and the three runs that every file gets."""


class TimingWorker:
    """Times files in a process of its own.

    Life: made (no process yet), `measure` any number of times (the first one starts the process, and so does the first
    one after the process died), `close` or the end of the `with` block.
    """

    def __init__(
        self,
        *,
        reference_cache: Path | None = None,
        cpu_cores: Sequence[int] = (),
        time_limit_s: float = TIME_LIMIT_S,
        grace_s: float = GRACE_S,
    ) -> None:
        """Check the cores; start nothing.

        Args:
            reference_cache: file of the reference network's best times, see `nas.latency.measured.reference_cache`.
            cpu_cores: cores to pin the process to; empty leaves the choice to the system.
            time_limit_s: seconds for each file of a measurement whose plan has no bound; then the process is killed.
            grace_s: seconds for each file beyond the plan's bound.

        Raises:
            ConfigError: this process may not use a core, or the system cannot pin processes.
        """
        self._reference_cache, self._cpu_cores = reference_cache, tuple(cpu_cores)
        self._time_limit_s, self._grace_s = time_limit_s, grace_s
        self._process: subprocess.Popen[str] | None = None
        if cpu_cores:
            allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
            if not allowed.issuperset(cpu_cores):
                usable = ", ".join(map(str, sorted(allowed))) or "none, as this system cannot pin"
                raise ConfigError(f"cores to pin to must be among {usable}, but got {', '.join(map(str, cpu_cores))}")

    def measure(
        self, models: Sequence[Path], *, runtime: str, device: str, input_shape: Sequence[Shape], plan: TimingPlan,
        threads: int = 1, batches: Sequence[int] = (),
    ) -> list[Latency]:  # fmt: skip
        """Time files side by side as `measure_interleaved` does, or one file alone as `measure` does.

        Args:
            models: the ONNX files.
            runtime: word of the runtime.
            device: what is measured on, in words.
            input_shape: (C, H, W) of each file's input.
            plan: when to stop.
            threads: threads inside an operator.
            batches: images of one run of each file; one image where it is empty.

        Returns:
            One measured latency for each file, in order.

        Raises:
            MeasureError: the runtime refuses a file.
            WorkerDeathError: the process ended, or had to be ended in time; `repeat_after_death` tries again.
            OSError, MemoryError: the machine lacks room, files or memory.
        """
        task = TimingTask(
            models=[str(path.resolve()) for path in models],
            runtime=runtime,
            device=device,
            input_shape=[list(shape) for shape in input_shape],
            plan=asdict(plan),
            threads=threads,
            batches=list(batches) or [1] * len(models),
            reference_cache=str(self._reference_cache.resolve()) if self._reference_cache else None,
        )
        per_file_s = self._time_limit_s if plan.max_duration_s is None else plan.max_duration_s + self._grace_s
        limit_s = plan.idle_wait_s + per_file_s * len(models)
        names, oom_kills = ", ".join(repr(path.name) for path in models), read_oom_kills()
        reply = self._send_task(json.dumps(task), limit_s)
        if reply is None:
            raise describe_death(names, self._stop(), before=oom_kills)
        if "failed" in reply:
            raise MeasureError(reply["failed"])
        if "lacks" in reply:
            raise OSError(*reply["lacks"]) if reply["lacks"] else MemoryError("timing a file")
        pinned = {"pinned": f"to core {', '.join(map(str, self._cpu_cores))}"} if self._cpu_cores else {}
        latencies = [Latency.from_dict(fields) for fields in reply["found"]]
        return [replace(latency, versions={**latency.versions, **pinned}) for latency in latencies]

    def close(self) -> None:
        """End the process, if one runs. A later `measure` starts another."""
        self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send_task(self, line: str, limit_s: float) -> dict[str, Any] | None:
        """The reply of the process; None where it died. It is killed where it does not reply in time."""
        process = self._process = self._process or self._start()
        assert process.stdin is not None  # noqa: S101
        assert process.stdout is not None  # noqa: S101
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            process.kill()

        timer = threading.Timer(limit_s, expire)
        timer.daemon = True
        timer.start()
        try:
            process.stdin.write(line + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        except BaseException:  # interrupted half-way: the next line read would be the reply to this task
            process.kill()
            self._stop()
            raise
        finally:
            timer.cancel()
        if expired.is_set():
            self._stop()
            raise WorkerDeathError(
                f"a timing must end within {limit_s:g} s, but this one did not; use a smaller file",
                cause="over its time limit",
                is_crash=True,
            )
        # A process that dies while it writes leaves half a line, which is no reply.
        reply: dict[str, Any] | None = json.loads(answer) if answer.endswith("\n") else None
        return reply

    def _start(self) -> "subprocess.Popen[str]":
        # `-P` keeps the working directory off the path: a file json.py there must not shadow the standard library's.
        command = [sys.executable, "-P", "-m", __name__, *map(str, self._cpu_cores)]
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C reaches this process only, which then closes the pipe
            env=_worker_environment(),
        )

    def _stop(self) -> int | None:
        """End the process; its exit status, or None where none ran."""
        process, self._process = self._process, None
        if process is None:
            return None
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue
        try:
            return process.wait(timeout=10)  # it finishes the task it is at; killed where that takes longer
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


class TimingTask(TypedDict):
    """One line to the worker, as JSON.

    Attributes:
        models: absolute paths of the ONNX files.
        runtime: word of the runtime.
        device: what is measured on, in words.
        input_shape: [C, H, W] of each file's input.
        plan: fields of a `TimingPlan`.
        threads: threads inside an operator.
        batches: images of one run of each file.
        reference_cache: absolute path of the reference network's best times; None without.
    """

    models: list[str]
    runtime: str
    device: str
    input_shape: list[list[int]]
    plan: dict[str, Any]
    threads: int
    batches: list[int]
    reference_cache: str | None


def handle_task(task: TimingTask) -> dict[str, Any]:
    """Carry out one task in the worker process.

    Returns:
        - `found`, the latencies as dictionaries in the order of the files;
        - `failed`, the message of a `NasError`; or
        - `lacks`, number and text of an `OSError`, or nothing for want of memory.
    """
    paths = [Path(model) for model in task["models"]]
    shapes: list[Shape] = [(c, h, w) for c, h, w in task["input_shape"]]
    device, threads, plan = task["device"], task["threads"], TimingPlan(**task["plan"])
    cache = Path(task["reference_cache"]) if task["reference_cache"] else None
    try:
        runtime: Backend = registry.load("runtime", task["runtime"])
        if not isinstance(runtime, Runtime):
            reason = runtime.unavailable_reason()
            raise MeasureError(f"{paths[0].name!r} cannot be loaded by {runtime.name}: it {reason}")
        if len(paths) == 1:
            latencies = [
                measure(
                    paths[0], runtime, device=device, input_shape=shapes[0], threads=threads, plan=plan,
                    batch=task["batches"][0], reference_cache=cache,
                )
            ]  # fmt: skip
        else:
            latencies = measure_interleaved(
                paths, runtime, device=device, input_shape=shapes, threads=threads, batches=task["batches"], plan=plan,
                reference_cache=cache,
            )  # fmt: skip
    except (NasError, OSError, MemoryError) as error:
        if fault := find_system_error(error):
            return {"lacks": [fault.errno, fault.strerror] if isinstance(fault, OSError) else []}
        return {"failed": str(error)}  # also a missing package, whose message says what to install
    return {"found": [latency.to_dict() for latency in latencies]}


def serve() -> None:
    """Answer lines until the pipe closes, also amid a task: whoever sent it is gone.

    Libraries print to standard error and cannot corrupt a reply.
    """
    if len(sys.argv) > 1:
        os.sched_setaffinity(0, {int(core) for core in sys.argv[1:]})
    # The pipe moves to a descriptor that only this function knows; descriptor 1 becomes standard error, which also
    # catches what C libraries print.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read_lines, args=(lines,), daemon=True).start()
    while True:
        try:
            answers.write(json.dumps(handle_task(json.loads(lines.get()))) + "\n")
            answers.flush()
        except BrokenPipeError:  # the process that sent the task is gone
            os._exit(0)


def _read_lines(lines: "queue.SimpleQueue[str]") -> None:
    """Hand on lines of standard input as they come, and end the process where it closes."""
    for line in sys.stdin:
        lines.put(line)
    remove_reference()
    os._exit(0)


def _worker_environment() -> dict[str, str]:
    """This process's environment with the package's root first, so that the worker runs the same code in any folder."""
    root = str(Path(__file__).resolve().parents[3])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}


if __name__ == "__main__":
    serve()
