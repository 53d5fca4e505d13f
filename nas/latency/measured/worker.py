"""A process of its own that does nothing but time files, so that what goes on in this one cannot disturb them unseen.

It holds no torch, no threads but the runtime's, and may be pinned to cores. It is started at the first measurement and
ends with this process, however that ends: it reads what to time from a pipe, one line of JSON each, and leaves when the
pipe closes. A file that brings the runtime down costs one measurement and not the search.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

from nas import registry
from nas.errors import ConfigError, MeasureError, NasError
from nas.latency.estimate import Latency
from nas.latency.measured.timing import Shape, measure, measure_interleaved
from nas.latency.measured.timing_loop import TimingPlan


class TimingWorker:
    """Times files in a process of its own. Life: made, `measure` any number of times, closed or left as a context."""

    def __init__(self, *, reference_cache: Path | None = None, cpu_cores: Sequence[int] = ()) -> None:
        """No process is started yet.

        Args:
            reference_cache: file of the reference network's best times, see `nas.latency.measured.reference_cache`.
            cpu_cores: cores that it may run on; none leaves that to the system.

        Raises:
            ConfigError: a core is not one that this process may use, or the system cannot pin.
        """
        self._reference_cache, self._cpu_cores = reference_cache, tuple(cpu_cores)
        self._process: subprocess.Popen[str] | None = None
        if cpu_cores:
            allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
            if not allowed.issuperset(cpu_cores):
                there = ", ".join(map(str, sorted(allowed))) or "none, as this system cannot pin"
                raise ConfigError(f"cores to pin to must be among {there}, but got {', '.join(map(str, cpu_cores))}")

    def measure(
        self, models: Sequence[Path], *, runtime: str, device: str, input_shape: Sequence[Shape], plan: TimingPlan,
        threads: int = 1,
    ) -> list[Latency]:  # fmt: skip
        """Time files side by side, as `nas.latency.measured.timing.measure_interleaved` does; one file alone as `measure` does.

        Args:
            models: the ONNX files.
            runtime: word of the runtime.
            device: where, in words.
            input_shape: (C, H, W) of each file's input.
            plan: when to end.
            threads: threads inside an operator.

        Raises:
            MeasureError: the runtime refuses a file, or brings its process down.
        """
        task = {
            "models": [str(path.resolve()) for path in models], "runtime": runtime, "device": device,
            "input_shape": [list(shape) for shape in input_shape], "plan": asdict(plan), "threads": threads,
            "memory": str(self._reference_cache.resolve()) if self._reference_cache else None,
        }  # fmt: skip
        answer = self._send_task(json.dumps(task))
        if answer is None:
            status = self._stop()
            names = ", ".join(repr(path.name) for path in models)
            raise MeasureError(f"the process that timed {names} must live, but it ended with status {status}")
        if "failed" in answer:
            raise MeasureError(answer["failed"])
        pinned = {"pinned": f"to core {', '.join(map(str, self._cpu_cores))}"} if self._cpu_cores else {}
        found = [Latency.from_dict(fields) for fields in answer["found"]]
        return [replace(m, versions={**m.versions, **pinned}) for m in found]

    def close(self) -> None:
        """End the process, if there is one. A later `measure` starts another."""
        self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send_task(self, line: str) -> dict[str, Any] | None:
        """The answer of the process, or None where it died."""
        process = self._process = self._process or self._start()
        assert process.stdin is not None  # noqa: S101
        assert process.stdout is not None  # noqa: S101
        try:
            process.stdin.write(line + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            return None
        except BaseException:  # interrupted in the middle: the next answer would be to this question
            process.kill()
            self._stop()
            raise
        found: dict[str, Any] | None = json.loads(answer) if answer.endswith("\n") else None
        return found

    def _start(self) -> "subprocess.Popen[str]":
        command = [sys.executable, "-P", "-m", "nas.latency.measured.worker", *map(str, self._cpu_cores)]
        # In a session of its own, an interrupt from the keyboard reaches only us, who then close the pipe.
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=_worker_environment(),
        )

    def _stop(self) -> int | None:
        """End the process; its status, or None where there was none."""
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
            return process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def _worker_environment() -> dict[str, str]:
    """Ours, with the place of this package first, so that the process runs the same code from any folder."""
    root = str(Path(__file__).resolve().parents[3])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}


def handle_task(task: dict[str, Any]) -> dict[str, Any]:
    """What the process does with one line: the measurements, or why there are none."""
    paths, shapes = [Path(model) for model in task["models"]], [tuple(shape) for shape in task["input_shape"]]
    more = {"device": task["device"], "threads": task["threads"], "plan": TimingPlan(**task["plan"])}
    more["memory"] = Path(task["memory"]) if task["memory"] else None
    try:
        runtime = registry.load("runtime", task["runtime"])
        if len(paths) == 1:
            found = [measure(paths[0], runtime, input_shape=shapes[0], **more)]
        else:
            found = measure_interleaved(paths, runtime, input_shape=shapes, **more)
    except NasError as error:  # a missing package, too, is told in its own words
        return {"failed": str(error)}
    return {"found": [each.to_dict() for each in found]}


def serve() -> None:
    """Answer lines until the pipe closes. What a library prints goes to standard error and spoils no answer."""
    if len(sys.argv) > 1:
        os.sched_setaffinity(0, {int(core) for core in sys.argv[1:]})
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        try:
            answers.write(json.dumps(handle_task(json.loads(line))) + "\n")
            answers.flush()
        except BrokenPipeError:  # whoever asked is gone
            os._exit(0)


if __name__ == "__main__":
    serve()
