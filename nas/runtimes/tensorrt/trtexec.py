"""What trtexec wants to be told and what it answers, from 8.2 to 11: one adapter, pure functions.

Flags, banner and JSON are those of `samples/common/sampleOptions.cpp` and `sampleReporting.cpp` at tags 8.2 to 11.1 of
https://github.com/NVIDIA/TensorRT. None of it was run against a real trtexec for this project.

Two traps. A bare run means something else since 11 (CUDA graph on, transfers off, always strongly typed), so older ones
are told by flags what 11 does anyway. And time stamps in the JSON keep six digits, which after a second is a grid of
10 us: the durations `computeMs` are read, never a difference of stamps.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from nas.errors import MeasureError
from nas.runtimes.base import Layer

Times = npt.NDArray[np.float64]
Version = tuple[int, int, int]

OLDEST: Version = (8, 2, 0)
WORKSPACE_MIB = 256
LOG_LINES = 20
FLOAT16 = 10
"""`onnx.TensorProto.FLOAT16`."""

_BANNER = re.compile(r"RUNNING TensorRT\.trtexec \[TensorRT v(\d+(?:\.\d+)*)\]")
_STAMP = re.compile(r"^\[[^\]]*\] \[[A-Z]\] (?:\[TRT\] )?")
_TENSOR = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_THROUGHPUT = re.compile(r"Throughput: ([0-9.eE+-]+) qps")


@dataclass(frozen=True, kw_only=True)
class Form:
    """What of an ONNX file decides the flags.

    Attributes:
        shapes: `name:1xCxHxW` where the number of images is left open, else empty.
        half: whether it holds float16 tensors.
        quantised: whether it holds Q/DQ nodes.
    """

    shapes: str
    half: bool
    quantised: bool


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A trtexec that was asked who it is.

    Attributes:
        path: absolute, on the device.
        version: major, minor, patch.
        help: its own list of flags.
    """

    path: str
    version: Version
    help: str = ""

    @property
    def typed(self) -> bool:
        """Whether networks can be strongly typed: the file's types are then the engine's."""
        return self.version >= (11, 0, 0) or "--stronglyTyped" in self.help or (not self.help and self.version[0] >= 10)

    @property
    def version_text(self) -> str:
        """As people write it."""
        return ".".join(map(str, self.version))


def form_of(model: Path) -> Form:
    """Read what decides the flags off a file with one input [N, C, H, W].

    Raises:
        MeasureError: it is no such file, or its input has a name that trtexec's `--shapes` cannot take.
    """
    try:
        graph = onnx.load(str(model), load_external_data=False).graph
        dims = [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim]
    except Exception as error:  # protobuf's errors share no public base
        raise MeasureError(f"{model.name!r} must be an ONNX file with an input: {_line(str(error))}") from None
    if len(graph.input) != 1 or len(dims) != 4 or min(dims[1:]) < 1:
        raise MeasureError(f"{model.name!r} must have one input [N, C, H, W] with fixed C, H and W, but has {dims}")
    name = graph.input[0].name
    if not dims[0] and not _TENSOR.fullmatch(name):
        raise MeasureError(f"the input must have a name of letters, digits, '_', '.', '/' and '-', but it is {name!r}")
    shapes = "" if dims[0] else f"{name}:1x{dims[1]}x{dims[2]}x{dims[3]}"
    return Form(shapes=shapes, half=_has_half(graph), quantised=any(n.op_type == "QuantizeLinear" for n in graph.node))


def version_of(banner: str) -> Version:
    """The version in trtexec's first line: `v8205` is 8.2.5, `v100300` is 10.3.0.

    Raises:
        MeasureError: there is no such line, or the version is older than 8.2.
    """
    found = _BANNER.search(banner)
    if not found:
        said = next((line for line in banner.splitlines() if line.strip()), "nothing")
        raise MeasureError(f"trtexec must begin with a line that names its version, but said: {_line(said)}")
    digits = found[1]
    if "." in digits:
        parts = [int(part) for part in digits.split(".")]
        version = (parts[0], parts[1], parts[2] if len(parts) > 2 else 0)
    else:
        number, base = int(digits), 10_000 if len(digits) > 4 else 1_000
        version = (number // base, number % base // 100, number % 100)
    if version < OLDEST:
        raise MeasureError(f"TensorRT must be 8.2 or newer, but the board has {'.'.join(map(str, version))}")
    return version


def build_and_time(
    tool: Tool, form: Form, *, model: str, engine: str, times: str, cache: str, duration_s: float, level: int = 3
) -> list[str]:
    """The command that builds an engine of a file, keeps it, and times it.

    Args:
        tool: the trtexec.
        form: of the file.
        model: the ONNX file's name on the device; so are the next three.
        engine: takes the engine.
        times: takes the JSON of all runs.
        cache: timing cache, read and written.
        duration_s: seconds of timing.
        level: builder optimisation level from 8.6 on; the same for all that is compared.
    """
    flags = [f"--onnx={model}", f"--saveEngine={engine}", f"--timingCacheFile={cache}"]
    flags.append(
        f"--memPoolSize=workspace:{WORKSPACE_MIB}" if tool.version >= (8, 4, 0) else f"--workspace={WORKSPACE_MIB}"
    )
    if tool.version >= (8, 6, 0):
        flags.append(f"--builderOptimizationLevel={level}")
    return [tool.path, *flags, *_types(tool, form), *_timing(tool, form, times, duration_s)]


def time_again(tool: Tool, form: Form, *, engine: str, times: str, duration_s: float) -> list[str]:
    """The command that times an engine which this session has built."""
    return [tool.path, f"--loadEngine={engine}", *_timing(tool, form, times, duration_s)]


def time_layers(tool: Tool, form: Form, *, engine: str, profile: str) -> list[str]:
    """The command that times each layer: no CUDA graph, and an event around each, so the sum is too much."""
    flags = [f"--loadEngine={engine}", *_shapes(form), f"--exportProfile={profile}", "--warmUp=200", "--duration=1"]
    flags.append("--noCudaGraph" if tool.version >= (11, 0, 0) else "--separateProfileRun")
    return [tool.path, *flags]


def notes_of(tool: Tool, form: Form) -> tuple[str, ...]:
    """What a reader of the figure has to know about how the engine's types came about."""
    if tool.typed:
        return ()
    allowed = " and ".join(flag[2:].upper() for flag in _types(tool, form)) or "FP32"
    return (f"weakly typed: TensorRT {tool.version_text} chose each layer's type among FP32 and {allowed}",)


def parse_times(text: str) -> Times:
    """Milliseconds of each run on the GPU [runs], from `--exportTimes`.

    Raises:
        MeasureError: it is not the JSON that trtexec writes, or a time is not a positive number.
    """
    try:
        entries = json.loads(text)
        times = np.array([float(entry["computeMs"]) for entry in entries])
    except (ValueError, TypeError, KeyError) as error:
        raise MeasureError(
            f"trtexec must write a list of runs with computeMs, but wrote {_line(text)!r} ({error!r})"
        ) from None
    if len(times) < 2 or not np.all(np.isfinite(times)) or times.min() <= 0:
        raise MeasureError(
            f"trtexec must time two runs or more, each above 0 ms, but gave {len(times)} runs: {_line(text)}"
        )
    return times


def parse_layers(text: str) -> tuple[Layer, ...]:
    """Layers in order with their median milliseconds (mean before 8.5), from `--exportProfile`.

    Raises:
        MeasureError: it is not the JSON that trtexec writes.
    """
    try:
        entries: list[Mapping[str, Any]] = [e for e in json.loads(text) if "name" in e]
        return tuple(Layer(name=str(e["name"]), ms=float(e.get("medianMs", e["averageMs"]))) for e in entries)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise MeasureError(f"trtexec must write a list of layers, but wrote {_line(text)!r} ({error!r})") from None


def throughput(log: str) -> float | None:
    """Inferences a second, from the summary; None where there is none."""
    found = _THROUGHPUT.search(log)
    return float(found[1]) if found else None


def tail(log: str) -> tuple[str, ...]:
    """The last lines of a log, without anything that a terminal would obey."""
    lines = [_printable(line) for line in log.splitlines() if line.strip()]
    return tuple(lines[-LOG_LINES:])


def failure(log: str) -> str:
    """The line of a log that says most about why it failed: the first error, else the last line."""
    lines = [_printable(line) for line in log.splitlines() if line.strip() and not line.startswith("&&&&")]
    errors = [line for line in lines if "[E]" in line] or lines[-1:]
    return _line(_STAMP.sub("", errors[0])) if errors else "it wrote nothing"


def _types(tool: Tool, form: Form) -> list[str]:
    """Flags that give the engine the types of the file; before strong typing, those that it has are allowed."""
    if tool.version >= (11, 0, 0):
        return []
    if tool.typed:
        return ["--stronglyTyped"]
    return [*(["--fp16"] if form.half else []), *(["--int8"] if form.quantised else [])]


def _timing(tool: Tool, form: Form, times: str, duration_s: float) -> list[str]:
    same = [] if tool.version >= (11, 0, 0) else ["--useCudaGraph", "--useSpinWait", "--noDataTransfers"]
    amount = ["--warmUp=500", f"--duration={duration_s:g}", "--iterations=200", "--avgRuns=100"]
    return [*_shapes(form), *same, *amount, f"--exportTimes={times}"]


def _shapes(form: Form) -> list[str]:
    return [f"--shapes={form.shapes}"] if form.shapes else []


def _has_half(graph: onnx.GraphProto) -> bool:
    if any(tensor.data_type == FLOAT16 for tensor in graph.initializer):
        return True
    casts = (a.i for n in graph.node if n.op_type == "Cast" for a in n.attribute if a.name == "to")
    return FLOAT16 in casts


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:300]


def _line(text: str) -> str:
    return _printable(" ".join(text.split())[:200])
