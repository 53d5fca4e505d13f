"""Trial of a foreign ONNX file in a child process, before this process hands it to shape inference or to a runtime.

A file that passes the bounds of `nas.runtimes.onnx_input` may still crash native code, ask for all memory or run for
ever. The child infers its shapes and runs it once on the CPU, with limits on time and memory, so that such a file
costs one line of text.
"""

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nas.errors import MeasureError, NasError, one_line

TIME_LIMIT_S = 120.0
"""Bound of a trial. A net of 250,000 nodes or 10^13 MACs exceeds it; published nets take less than 2 s."""
MEMORY_LIMIT_BYTES = 8 * 2**30
"""Bound of the child's address space, of which Python and ONNX Runtime reserve about 1 GiB."""


def check_in_child(
    model: Path,
    *,
    input_shape: Sequence[int] = (),
    time_limit_s: float = TIME_LIMIT_S,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
) -> None:
    """Infer the shapes of a file, and run it once on zeros, in a child process.

    Args:
        model: a file that `nas.runtimes.onnx_input` has read.
        input_shape: [N, C, H, W] of the input; empty infers shapes only, for files that another runtime runs.
        time_limit_s: seconds after which the child is killed.
        memory_limit_bytes: limit of the child's address space.

    Raises:
        MeasureError: the file cannot be run, crashes the child, or exceeds a limit.
    """
    task = {"model": str(model.resolve()), "input_shape": list(input_shape), "memory_bytes": memory_limit_bytes}
    task |= {"cpu_s": math.ceil(time_limit_s) + 1}
    # `-P` keeps the working directory off the path: a file json.py there must not shadow the standard library's.
    command = [sys.executable, "-P", "-m", __name__]
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
    try:
        result = subprocess.run(
            command, input=json.dumps(task), capture_output=True, text=True, errors="replace", env=environment,
            timeout=time_limit_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise MeasureError(
            f"{model} must load and run once within {time_limit_s:g} s, but does not; use a smaller file"
        ) from None
    line = result.stdout.rpartition("\n")[2]
    if result.returncode or not line.startswith("{"):
        code = result.returncode
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"status {code}"
        raise MeasureError(
            f"{model} must load and run within {memory_limit_bytes / 2**30:g} GiB, but its trial ended with {how}; "
            "use a smaller file, or export it again"
        )
    if reason := json.loads(line).get("failed"):
        raise MeasureError(reason)


def run_trial(model: Path, input_shape: Sequence[int]) -> None:
    """Infer the shapes of a file and run it once on zeros. For the child process only.

    Raises:
        Exception: whatever onnx and ONNX Runtime raise, which share no base.
    """
    import onnx

    from nas.runtimes.ort.session import CPU_PROVIDER, create_session, input_dtype, session_options

    content = onnx.load(model, format="protobuf", load_external_data=False)
    onnx.shape_inference.infer_shapes(content, data_prop=True)
    if input_shape:
        session = create_session(model, session_options(1), CPU_PROVIDER)
        entry = session.get_inputs()[0]
        session.run(None, {entry.name: np.zeros(input_shape, input_dtype(entry))})


def _serve() -> None:
    """Carry out the task on standard input, and answer in one line of JSON."""
    task = json.loads(sys.stdin.read())
    limit = task["memory_bytes"]
    # A lower limit of the account is in force, or the system has none: Windows has no such module.
    with contextlib.suppress(ValueError, OSError, ImportError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        # Ends a child whose parent was killed meanwhile. Its one thread reaches the parent's limit first otherwise.
        resource.setrlimit(resource.RLIMIT_CPU, (task["cpu_s"], task["cpu_s"]))
    # Native code that prints must not mix with the answer.
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    reply: dict[str, str] = {}
    model = Path(task["model"])
    too_little = f"{model} must run within {limit / 2**30:g} GiB, but needs more; use a smaller file"
    try:
        run_trial(model, task["input_shape"])
    except MemoryError:
        reply = {"failed": too_little}
    except NasError as error:  # says what must hold already
        reply = {"failed": str(error)}
    except Exception as error:  # onnx's and onnxruntime's exceptions share no base
        reason = f"{model} must be an ONNX file that loads and runs, but does not: {one_line(error)}"
        # What an import says where the limit leaves no room for a library.
        reply = {"failed": too_little if "failed to map segment" in str(error) else reason}
    answer.write(json.dumps(reply))
    answer.flush()
    os._exit(0)


if __name__ == "__main__":
    _serve()
