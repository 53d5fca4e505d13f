"""What all ONNX Runtime providers share: a session with bound buffers, and a look at where each node really ran.

ONNX Runtime falls back in silence: where a provider's library is missing, or a node is nothing for it, the CPU takes
over and only a log line says so. So a provider that was asked for has to be the session's first, and a profiled run
tells which provider executed each node.
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from nas.errors import MeasureError, one_line
from nas.runtimes.base import Floats, LayerTiming, Session

CPU_PROVIDER = "CPUExecutionProvider"
BATCH_SIZE = 256
PROFILED_RUNS = 20


class OrtSession(Session):
    """One file on one provider. Its input is float32 [N, C, H, W], its first output [N, K]."""

    def __init__(self, session: ort.InferenceSession, *, device: str = "cpu") -> None:
        self._session: ort.InferenceSession | None = session
        self._device = device

    def predict(self, images: npt.NDArray[np.uint8]) -> Floats:
        """Class probabilities [N, K] of images [N, C, H, W], run in batches as large as the file allows."""
        session = self._open_session()
        entry = session.get_inputs()[0]
        batch = entry.shape[0] if isinstance(entry.shape[0], int) else BATCH_SIZE
        parts = [
            session.run(None, {entry.name: images[i : i + batch].astype(np.float32)})[0]
            for i in range(0, len(images), batch)
        ]
        return np.concatenate(parts).astype(np.float32, copy=False)

    def bound_run(self, images: npt.NDArray[np.uint8]) -> Callable[[], None]:
        """A call that runs the file once on these images, which lie on the provider's device.

        Raises:
            MeasureError: the images do not fit the file's input.
        """
        session = self._open_session()
        entry, output = session.get_inputs()[0], session.get_outputs()[0]
        value = np.ascontiguousarray(images, dtype=np.float32)
        try:
            result = session.run([output.name], {entry.name: value})[0]
        except Exception as error:  # onnxruntime's exceptions share no base but Exception
            raise MeasureError(
                f"images must fit the input {entry.shape} of the file, but got {list(images.shape)}: {one_line(error)}"
            ) from error
        binding = session.io_binding()
        binding.bind_ortvalue_input(entry.name, ort.OrtValue.ortvalue_from_numpy(value, self._device, 0))
        binding.bind_ortvalue_output(output.name, ort.OrtValue.ortvalue_from_numpy(result, self._device, 0))
        if self._device == "cpu":
            return lambda: session.run_with_iobinding(binding)

        def run() -> None:
            session.run_with_iobinding(binding)
            binding.synchronize_outputs()

        return run

    def close(self) -> None:
        """Release the file and its threads. Calls handed out by `bound_run` must be dropped too."""
        self._session = None

    def _open_session(self) -> ort.InferenceSession:
        if self._session is None:
            raise MeasureError("a session must be open, but this one was closed; load the file again")
        return self._session


def create_session(
    model: Path, options: ort.SessionOptions, provider: str, provider_options: Mapping[str, str] | None = None
) -> ort.InferenceSession:
    """A session of a file on one provider, and on no other.

    Raises:
        MeasureError: the file is refused, or another provider would run it.
    """
    asked = [(provider, dict(provider_options))] if provider_options else [provider]
    if provider != CPU_PROVIDER:
        if provider not in ort.get_available_providers():
            raise MeasureError(f"{model.name!r} must run on {provider}, but this onnxruntime has none")
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = ort.InferenceSession(str(model), sess_options=options, providers=asked)
    except Exception as error:  # onnxruntime's exceptions share no base but Exception
        raise MeasureError(f"{model} must be an ONNX file that ONNX Runtime loads: {one_line(error)}") from error
    if session.get_providers()[0] != provider:
        raise MeasureError(
            f"{model.name!r} must run on {provider}, but ONNX Runtime chose {session.get_providers()[0]}"
        )
    return session


def session_options(threads: int) -> ort.SessionOptions:
    """One operator at a time, `threads` inside it. They spin only where one has others to wait for."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if threads > 1 else "0")
    return options


def check_placement(events: list[dict[str, Any]], provider: str, model: Path) -> None:
    """Make sure that each node of a profiled run was executed by the provider.

    Raises:
        MeasureError: another one executed a node; the message names the first, and how many there are.
    """
    nodes = list(node_events(events))
    elsewhere = [(name, args.get("provider", "unknown")) for name, args, _ in nodes if args.get("provider") != provider]
    if elsewhere or not nodes:
        what = f"{len(elsewhere)} of {len(nodes)} ran elsewhere, the first {elsewhere[0]}" if elsewhere else "none ran"
        raise MeasureError(f"each node of {model.name!r} must run on {provider}, but {what}")


def run_profiled(
    model: Path, options: ort.SessionOptions, provider: str, input_shape: tuple[int, ...],
    provider_options: Mapping[str, str] | None = None, runs: int = PROFILED_RUNS,
) -> list[dict[str, Any]]:  # fmt: skip
    """The events of some runs under ONNX Runtime's profiler, on one image of zeros [1, *shape].

    Raises:
        MeasureError: the file is refused.
    """
    with tempfile.TemporaryDirectory(prefix="fer-nas-") as folder:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = create_session(model, options, provider, provider_options)
        feed = {session.get_inputs()[0].name: np.zeros((1, *input_shape), np.float32)}
        for _ in range(runs):
            session.run(None, feed)
        events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text())
        return events


def layer_times(events: list[dict[str, Any]]) -> tuple[LayerTiming, ...]:
    """Median milliseconds of each node of a profiled run, in order; the profiler itself adds to small ones."""
    times: dict[str, list[float]] = {}
    for name, args, us in node_events(events):
        times.setdefault(f"{name} ({args.get('op_name', 'unknown')})", []).append(us)
    return tuple(LayerTiming(name=name, ms=float(np.median(us)) / 1e3) for name, us in times.items())


def node_events(events: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any], float]]:
    """Name, facts and microseconds of each node of a profiled run, in order."""
    ended = "_kernel_time"
    return [
        (str(e["name"]).removesuffix(ended), e.get("args", {}), float(e["dur"]))
        for e in events
        if e.get("cat") == "Node" and str(e.get("name", "")).endswith(ended)
    ]
