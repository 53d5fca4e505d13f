"""ONNX Runtime sessions for any provider: bound buffers, and a check of where each node really runs.

ONNX Runtime falls back silently: where the library of a provider is missing, or a node is not supported by it, the CPU
takes over and only a log line says so. So a requested provider must be the first of the session, and a profiled run
shows which provider executed each node.
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
"""Images a run of a file with an open batch: activations of FER-sized nets then stay below a few hundred MB."""
PROFILED_RUNS = 20
"""Runs under the profiler, whose median is taken for each node."""

_DTYPES: dict[str, npt.DTypeLike] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int16)": np.int16,
    "tensor(uint16)": np.uint16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}
"""Types of NumPy that hold each pixel value 0..255 exactly, by the names of ONNX Runtime."""


class OrtSession(Session):
    """One file on one provider. Its input is [N, C, H, W] of any real type, its first output [N, K]."""

    def __init__(self, session: ort.InferenceSession, *, device: str = "cpu") -> None:
        self._session: ort.InferenceSession | None = session
        self._device = device

    def predict(self, images: npt.NDArray[np.uint8]) -> Floats:
        """Class probabilities [N, K] of images [N, C, H, W], in batches of the file's own size or `BATCH_SIZE`.

        Raises:
            MeasureError: the session was closed, or pixels cannot be given in the input's type.
        """
        session = self._open_session()
        entry = session.get_inputs()[0]
        dtype = input_dtype(entry)
        batch = entry.shape[0] if isinstance(entry.shape[0], int) else BATCH_SIZE
        parts = [
            session.run(None, {entry.name: images[i : i + batch].astype(dtype)})[0]
            for i in range(0, len(images), batch)
        ]
        return np.concatenate(parts).astype(np.float32, copy=False)

    def bound_run(self, images: npt.NDArray[np.uint8]) -> Callable[[], None]:
        """A call that runs the file once on these images, which are copied to the provider's device beforehand.

        Raises:
            MeasureError: the session was closed, or the images do not fit the file's input.
        """
        session = self._open_session()
        entry, outputs = session.get_inputs()[0], session.get_outputs()
        value = np.ascontiguousarray(images, dtype=input_dtype(entry))
        try:
            results = session.run(None, {entry.name: value})
        except Exception as error:  # onnxruntime's exceptions share no base but Exception
            raise MeasureError(
                f"images must fit the input {entry.shape} of the file, but got {list(images.shape)}: {one_line(error)}"
            ) from error
        binding = session.io_binding()
        binding.bind_ortvalue_input(entry.name, ort.OrtValue.ortvalue_from_numpy(value, self._device, 0))
        for output, result in zip(outputs, results, strict=True):
            binding.bind_ortvalue_output(output.name, ort.OrtValue.ortvalue_from_numpy(result, self._device, 0))
        if self._device == "cpu":
            return lambda: session.run_with_iobinding(binding)

        def run() -> None:
            session.run_with_iobinding(binding)
            binding.synchronize_outputs()

        return run

    def close(self) -> None:
        """Release the file and its threads, once the calls made by `bound_run` are dropped too."""
        self._session = None

    def _open_session(self) -> ort.InferenceSession:
        if self._session is None:
            raise MeasureError("a session must be open, but this one was closed; load the file again")
        return self._session


def create_session(
    model: Path, options: ort.SessionOptions, provider: str, provider_options: Mapping[str, str] | None = None
) -> ort.InferenceSession:
    """A session of a file on one provider and on no other.

    Args:
        model: the ONNX file.
        options: of the session; fallback to the CPU is switched off in them.
        provider: ONNX Runtime's name of the provider.
        provider_options: its options.

    Raises:
        MeasureError: ONNX Runtime refuses the file, or another provider would run it.
    """
    providers = [(provider, dict(provider_options))] if provider_options else [provider]
    if provider != CPU_PROVIDER:
        if provider not in ort.get_available_providers():
            raise MeasureError(f"{model.name!r} must run on {provider}, but this onnxruntime was built without it")
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = ort.InferenceSession(str(model), sess_options=options, providers=providers)
    except Exception as error:  # onnxruntime's exceptions share no base but Exception
        raise MeasureError(f"{model} must be an ONNX file that ONNX Runtime loads: {one_line(error)}") from error
    if session.get_providers()[0] != provider:
        raise MeasureError(
            f"{model.name!r} must run on {provider}, but ONNX Runtime chose {session.get_providers()[0]}"
        )
    return session


def input_dtype(entry: Any) -> npt.DTypeLike:
    """NumPy type of an input that takes pixel values 0..255.

    Args:
        entry: the input, as `InferenceSession.get_inputs` describes it.

    Raises:
        MeasureError: pixels cannot be given in its type.
    """
    if entry.type not in _DTYPES:
        raise MeasureError(
            f"input {entry.name!r} must take numbers such as {', '.join(_DTYPES)}, but takes {entry.type}; export the "
            "file with another input type"
        )
    return _DTYPES[entry.type]


def session_options(threads: int) -> ort.SessionOptions:
    """Options for one operator at a time with `threads` threads inside it.

    Several threads spin between operators, as waking a sleeping one costs more than a small operator; one has nobody
    to wait for.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if threads > 1 else "0")
    return options


def check_placement(events: list[dict[str, Any]], provider: str, model: Path) -> None:
    """Check that the provider executed each node of a profiled run.

    Raises:
        MeasureError: another provider executed a node; the message names the first, and how many there are.
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
    """Events of some runs under ONNX Runtime's profiler, on one image of zeros [1, *input_shape].

    Raises:
        MeasureError: ONNX Runtime refuses the file.
    """
    with tempfile.TemporaryDirectory(prefix="fer-nas-") as folder:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = create_session(model, options, provider, provider_options)
        entry = session.get_inputs()[0]
        feed = {entry.name: np.zeros((1, *input_shape), input_dtype(entry))}
        for _ in range(runs):
            session.run(None, feed)
        events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text())
        return events


def layer_times(events: list[dict[str, Any]]) -> tuple[LayerTiming, ...]:
    """Median milliseconds of each node of a profiled run, in order; the profiler lengthens short ones."""
    times: dict[str, list[float]] = {}
    for name, args, us in node_events(events):
        times.setdefault(f"{name} ({args.get('op_name', 'unknown')})", []).append(us)
    return tuple(LayerTiming(name=name, ms=float(np.median(us)) / 1e3) for name, us in times.items())


def node_events(events: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any], float]]:
    """Name, arguments and microseconds of each execution of a node, in order."""
    suffix = "_kernel_time"  # the profiler also has fence events of each node, before and after
    return [
        (str(e["name"]).removesuffix(suffix), e.get("args", {}), float(e["dur"]))
        for e in events
        if e.get("cat") == "Node" and str(e.get("name", "")).endswith(suffix)
    ]
