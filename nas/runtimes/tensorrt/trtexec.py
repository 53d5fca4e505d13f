"""Adapter to trtexec 8.2 to 11, as pure functions: commands with the flags of a version, and parsers of its output.

Flags, banner and JSON are those of `samples/common/sampleOptions.cpp` and `sampleReporting.cpp` at tags 8.2 to 11.1 of
https://github.com/NVIDIA/TensorRT. None of it was run against a real trtexec for this project.

Two traps:

- The defaults changed in 11 (CUDA graph on, transfers off, always strongly typed), so older versions get the flags that
  select the behaviour of 11.
- Time stamps in the JSON keep six digits, which after a second is a grid of 10 us. So the durations `computeMs` are
  read, never a difference of stamps.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from nas.errors import MeasureError
from nas.intervals import TimesMs
from nas.runtimes.base import LayerTiming
from nas.runtimes.onnx_input import read_onnx_input
from nas.runtimes.tensorrt.sparsity import has_2_4_weights

Version = tuple[int, int, int]

MIN_VERSION: Version = (8, 2, 0)
"""Of JetPack 4.6.1, the last for the Jetson Nano."""
WORKSPACE_MIB = 256
"""Scratch memory of the builder: ample for nets of a few MB, and free on a board with 2 GB."""
SPARSITY_NOTE = (
    "built with sparse kernels allowed, as the file has 2:4 zeros; the builder takes them where they are faster"
)
LOG_LINES = 20
"""Lines of a log that an error carries."""

_BANNER_PATTERN = re.compile(r"RUNNING TensorRT\.trtexec \[TensorRT v([0-9]{1,9}(?:\.[0-9]{1,9})*)\]")
_LOG_PREFIX_PATTERN = re.compile(r"^\[[^\]]*\] \[[A-Z]\] (?:\[TRT\] )?")
_TENSOR_NAME_PATTERN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
MAX_TIME_MS = 3.6e6
"""An hour, longer than any timing may take: a longer time is no time."""
_THROUGHPUT_PATTERN = re.compile(r"Throughput: ([0-9.eE+-]+) qps")


@dataclass(frozen=True, kw_only=True)
class ModelFormat:
    """Properties of an ONNX file that decide the flags.

    Attributes:
        dynamic_shape: `name:NxCxHxW` with the images of one run where the number of images is open, else empty. Of a
            file that takes pictures of any size, the size is that of the network inside it.
        has_float16: whether it holds FP16 tensors.
        has_qdq: whether it holds Q/DQ nodes.
        has_2_4_weights: whether a weight has the zeros that sparse tensor cores skip.
    """

    dynamic_shape: str
    has_float16: bool
    has_qdq: bool
    has_2_4_weights: bool = False


@dataclass(frozen=True, kw_only=True)
class TrtexecInfo:
    """A trtexec on a device.

    Attributes:
        path: absolute path on the device.
        version: major, minor, patch.
        help_text: its own list of flags; empty where it was not read.
        dla_core: DLA core that engines are built for; None for the GPU.
    """

    path: str
    version: Version
    help_text: str = ""
    dla_core: int | None = None

    @property
    def has_strong_typing(self) -> bool:
        """Whether networks can be strongly typed, so that the engine has the types of the file.

        The list of flags decides, as 8.6 has the flag on some devices; without a list, versions from 10 on have it. A
        DLA has no FP32, so its networks are weakly typed.
        """
        if self.dla_core is not None:
            return False
        return (
            self.version >= (11, 0, 0)
            or "--stronglyTyped" in self.help_text
            or (not self.help_text and self.version[0] >= 10)
        )

    @property
    def version_text(self) -> str:
        """The version as major.minor.patch."""
        return ".".join(map(str, self.version))


def read_model_format(model: Path, *, batch: int = 1) -> ModelFormat:
    """Read the format of a file with one input [N, C, H, W].

    Args:
        model: the file.
        batch: images of one run.

    Raises:
        MeasureError: it is no such file, or trtexec's `--shapes` cannot take the name of its input.
    """
    try:
        entry = read_onnx_input(model)
    except Exception as error:  # protobuf's errors share no public base
        raise MeasureError(f"{model.name!r} must be an ONNX file with an input: {_one_line(str(error))}") from None
    if not entry.takes_images(batch):
        n_images = "one image" if batch == 1 else f"{batch} images"
        raise MeasureError(
            f"{model.name!r} must have one input [N, C, H, W] with fixed C, H and W and {n_images} at a time, "
            f"but has {entry.form}; export it so"
        )
    if entry.external_files:
        raise MeasureError(
            f"{model.name!r} must hold its weights itself, but they are in {', '.join(entry.external_files)}; merge "
            "them with onnx.save(onnx.load(path), path)"
        )
    name, fixed_batch, image = entry.names[0], entry.dims[0], entry.image_dims
    if not fixed_batch and not _TENSOR_NAME_PATTERN.fullmatch(name):
        raise MeasureError(f"the input must have a name of letters, digits, '_', '.', '/' and '-', but it is {name!r}")
    return ModelFormat(
        dynamic_shape="" if fixed_batch else f"{name}:{batch}x{'x'.join(map(str, image))}",
        has_float16=_has_float16(entry.graph),
        has_qdq=any(n.op_type == "QuantizeLinear" for n in entry.graph.node),
        has_2_4_weights=has_2_4_weights(entry.graph),
    )


def parse_version(banner: str) -> Version:
    """The version in trtexec's first line: `v8205` is 8.2.5, `v100300` is 10.3.0.

    Raises:
        MeasureError: there is no such line, or the version is older than 8.2.
    """
    match = _BANNER_PATTERN.search(banner)
    if not match:
        first = next((line for line in banner.splitlines() if line.strip()), "nothing")
        raise MeasureError(f"trtexec must begin with a line that names its version, but said: {_one_line(first)}")
    digits = match[1]
    if "." in digits:
        parts = [int(part) for part in digits.split(".")]
        version = (parts[0], parts[1], parts[2] if len(parts) > 2 else 0)
    else:
        # NV_TENSORRT_VERSION: major * 10000 + minor * 100 + patch since 10, major * 1000 + ... before.
        number, base = int(digits), 10_000 if len(digits) > 4 else 1_000
        version = (number // base, number % base // 100, number % 100)
    if version < MIN_VERSION:
        raise MeasureError(f"TensorRT must be 8.2 or newer, but the board has {'.'.join(map(str, version))}")
    return version


def build_and_time_command(
    trtexec: TrtexecInfo,
    model_format: ModelFormat,
    *,
    model_file: str,
    engine_file: str,
    times_file: str,
    timing_cache_file: str,
    duration_s: float,
    optimization_level: int = 3,
) -> list[str]:
    """The command that builds an engine of a file, saves it, and times it.

    Args:
        trtexec: the trtexec.
        model_format: format of the file.
        model_file: name of the ONNX file on the device, as are the next three.
        engine_file: takes the engine.
        times_file: takes the JSON of all runs.
        timing_cache_file: timing cache, read and written.
        duration_s: seconds of timing.
        optimization_level: builder optimisation level, from 8.6 on; the same for all files of a comparison.
    """
    return [
        trtexec.path,
        f"--onnx={model_file}",
        f"--saveEngine={engine_file}",
        f"--timingCacheFile={timing_cache_file}",
        *build_flags(trtexec, model_format, optimization_level=optimization_level),
        *_timing_flags(trtexec, model_format, times_file, duration_s),
    ]


def build_flags(trtexec: TrtexecInfo, model_format: ModelFormat, *, optimization_level: int = 3) -> list[str]:
    """The flags that decide what engine is built: scratch memory, builder level, types, sparse kernels and the DLA."""
    workspace = "--memPoolSize=workspace:" if trtexec.version >= (8, 4, 0) else "--workspace="
    level = [f"--builderOptimizationLevel={optimization_level}"] if trtexec.version >= (8, 6, 0) else []
    return [
        f"{workspace}{WORKSPACE_MIB}",
        *level,
        *_type_flags(trtexec, model_format),
        *(["--sparsity=enable"] if model_format.has_2_4_weights else []),
        *([] if trtexec.dla_core is None else ["--allowGPUFallback"]),
        *_place_flags(trtexec),
    ]


def build_only_flag(version: Version) -> str:
    """The flag that builds an engine without timing it."""
    return "--skipInference" if version >= (8, 6, 0) else "--buildOnly"


def time_engine_command(
    trtexec: TrtexecInfo, model_format: ModelFormat, *, engine_file: str, times_file: str, duration_s: float
) -> list[str]:
    """The command that times an engine of this session. Arguments as for `build_and_time_command`."""
    return [
        trtexec.path,
        f"--loadEngine={engine_file}",
        *_place_flags(trtexec),
        *_timing_flags(trtexec, model_format, times_file, duration_s),
    ]


def time_application_command(trtexec: TrtexecInfo, model_format: ModelFormat, *, engine_file: str) -> list[str]:
    """The command that times an engine as an application calls it: no CUDA graph, and with copies of input and output.

    Its log holds the summary; no flag of a version 8 or 10 is needed for that, and those of 11 undo its defaults.
    """
    behaviour = ["--noCudaGraph", "--includeDataTransfers"] if trtexec.version >= (11, 0, 0) else ["--useSpinWait"]
    amount = ["--warmUp=500", "--duration=1", "--iterations=200", "--avgRuns=100"]
    place = _place_flags(trtexec)
    return [trtexec.path, f"--loadEngine={engine_file}", *place, *_shape_flags(model_format), *behaviour, *amount]


def time_layers_command(
    trtexec: TrtexecInfo, model_format: ModelFormat, *, engine_file: str, profile_file: str
) -> list[str]:
    """The command that times each layer: without a CUDA graph and with events around each, so the sum is too large."""
    flags = [
        f"--loadEngine={engine_file}",
        *_place_flags(trtexec),
        *_shape_flags(model_format),
        f"--exportProfile={profile_file}",
        "--warmUp=200",
        "--duration=1",
    ]
    flags.append("--noCudaGraph" if trtexec.version >= (11, 0, 0) else "--separateProfileRun")
    return [trtexec.path, *flags]


def build_notes(trtexec: TrtexecInfo, model_format: ModelFormat) -> tuple[str, ...]:
    """Notes on weak typing, under which the engine need not have the types of the file, and on sparse kernels."""
    sparse = (SPARSITY_NOTE,) if model_format.has_2_4_weights else ()
    if trtexec.has_strong_typing:
        return sparse
    allowed = " and ".join(flag[2:].upper() for flag in _type_flags(trtexec, model_format)) or "FP32"
    return (f"weakly typed: TensorRT {trtexec.version_text} chose each layer's type among FP32 and {allowed}", *sparse)


def parse_times(text: str) -> TimesMs:
    """Milliseconds of each run on the GPU [runs], from `--exportTimes`.

    Raises:
        MeasureError: the text is not JSON as trtexec writes it, there are fewer than two runs, or a time is not a
            positive number.
    """
    try:
        times = np.array([_read_number(entry["computeMs"]) for entry in _read_list(text)])
    except (ValueError, TypeError, KeyError) as error:
        raise MeasureError(
            f"trtexec must write a list of runs with computeMs, but wrote {_one_line(text)!r} ({_reason(error)})"
        ) from None
    if len(times) < 2 or not np.all((times > 0) & (times <= MAX_TIME_MS)):
        raise MeasureError(
            f"trtexec must time two runs or more, each above 0 ms and below an hour, but gave {len(times)} runs: "
            f"{_one_line(text)}"
        )
    return times


def parse_layers(text: str) -> tuple[LayerTiming, ...]:
    """Layers in order with their median milliseconds (mean before 8.5), from `--exportProfile`.

    Raises:
        MeasureError: the text is not JSON as trtexec writes it, or a time is negative or no number.
    """
    try:
        entries = [entry for entry in _read_list(text) if "name" in entry]
        times = [_read_number(e["medianMs"] if "medianMs" in e else e["averageMs"]) for e in entries]
    except (ValueError, TypeError, KeyError) as error:
        raise MeasureError(
            f"trtexec must write a list of layers, but wrote {_one_line(text)!r} ({_reason(error)})"
        ) from None
    if not all(0 <= ms <= MAX_TIME_MS for ms in times):
        raise MeasureError(
            f"trtexec must time each layer at 0 ms or more and below an hour, but wrote {_one_line(text)!r}"
        )
    return tuple(LayerTiming(name=str(e["name"]), ms=ms) for e, ms in zip(entries, times, strict=True))


def parse_throughput(log_text: str) -> float | None:
    """Inferences a second, from the summary; None where it is missing or no positive number."""
    match = _THROUGHPUT_PATTERN.search(log_text)
    try:
        throughput = float(match[1]) if match else 0.0
    except ValueError:  # such as "-", where nothing was timed
        return None
    return throughput if 0 < throughput < float("inf") else None


def log_tail(log_text: str) -> tuple[str, ...]:
    """The last lines of a log, without characters that control a terminal."""
    lines = [_printable(line) for line in log_text.splitlines() if line.strip()]
    return tuple(lines[-LOG_LINES:])


def first_error(log_text: str) -> str:
    """The line of a log that explains a failure: the first error, as later ones follow from it, else the last line."""
    lines = [_printable(line) for line in log_text.splitlines() if line.strip() and not line.startswith("&&&&")]
    errors = [line for line in lines if "[E]" in line] or lines[-1:]
    return _one_line(_LOG_PREFIX_PATTERN.sub("", errors[0])) if errors else "it wrote nothing"


def _type_flags(trtexec: TrtexecInfo, model_format: ModelFormat) -> list[str]:
    """Flags that give the engine the types of the file; without strong typing, they allow the types of the file."""
    if trtexec.dla_core is not None:
        return ["--fp16"]
    if trtexec.version >= (11, 0, 0):
        return []
    if trtexec.has_strong_typing:
        return ["--stronglyTyped"]
    return [*(["--fp16"] if model_format.has_float16 else []), *(["--int8"] if model_format.has_qdq else [])]


def _place_flags(trtexec: TrtexecInfo) -> list[str]:
    """Flags that put an engine on a DLA core; empty for the GPU."""
    return [] if trtexec.dla_core is None else [f"--useDLACore={trtexec.dla_core}"]


def _timing_flags(trtexec: TrtexecInfo, model_format: ModelFormat, times_file: str, duration_s: float) -> list[str]:
    """Flags of a timing: one CUDA graph, spinning host, no copies; the defaults of 11, given to older versions."""
    behaviour = [] if trtexec.version >= (11, 0, 0) else ["--useCudaGraph", "--useSpinWait", "--noDataTransfers"]
    # Half a second lets the GPU's clock rise; both a duration and 200 iterations must be reached.
    amount = ["--warmUp=500", f"--duration={duration_s:g}", "--iterations=200", "--avgRuns=100"]
    return [*_shape_flags(model_format), *behaviour, *amount, f"--exportTimes={times_file}"]


def _shape_flags(model_format: ModelFormat) -> list[str]:
    return [f"--shapes={model_format.dynamic_shape}"] if model_format.dynamic_shape else []


def _has_float16(graph: onnx.GraphProto) -> bool:
    if any(tensor.data_type == TensorProto.FLOAT16 for tensor in graph.initializer):
        return True
    casts = (a.i for n in graph.node if n.op_type == "Cast" for a in n.attribute if a.name == "to")
    return TensorProto.FLOAT16 in casts


def _read_list(text: str) -> list[Mapping[str, Any]]:
    """A JSON list of objects.

    Raises:
        ValueError: the text is no such list.
    """
    try:
        entries = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("it is no list of objects")
    return entries


def _read_number(value: Any) -> float:
    """A number of a JSON text; NaN and infinity too, which the caller's bounds refuse.

    Raises:
        ValueError: it is no number, or too large for a float.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"a time must be a number, but one is a {type(value).__name__}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError("a time must be a number, but one has too many digits") from None


def _reason(error: Exception) -> str:
    return _one_line(f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error))


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:300]


def _one_line(text: str) -> str:
    return _printable(" ".join(text.split())[:200])
