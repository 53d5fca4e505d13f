"""Stand-in for the package tensorrt and a CUDA device, to check the order of the calls. It says nothing about speed.

It has the names that the published bindings of a version have (`benchmarks/tensorrt_names.py` looks them up) and
computes with onnxruntime. Misuse that TensorRT or CUDA would punish raises: an address that was never set, waiting for
a stream that is captured, a flag that the version does not have, memory freed twice.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort

from nas.runtimes.tensorrt.cuda import CudaDevice


class PlayedCuda(CudaDevice):
    """Memory in a dictionary, and a clock by which each run takes 0.1 ms."""

    name = "stand-in GPU"
    stream = 7

    def __init__(self, memory: dict[int, np.ndarray]) -> None:
        self.memory = memory
        self.sizes: dict[int, int] = {}
        self.closed = False
        self.capturing = False
        self.captures = 0

    def allocate(self, size: int) -> int:
        address = 1000 + len(self.memory)
        self.memory[address] = np.zeros(size, np.uint8)
        self.sizes[address] = size
        return address

    def upload(self, address: int, array: np.ndarray) -> None:
        assert array.flags.c_contiguous
        assert array.nbytes == self.sizes[address]
        self.memory[address] = array.copy()

    def download(self, array: np.ndarray, address: int) -> None:
        assert array.nbytes == self.sizes[address]
        array[...] = self.memory[address]

    def time_ms(self, call: Callable[[], None]) -> float:
        call()
        return 0.1

    def synchronize(self) -> None:
        assert not self.capturing, "the stream cannot be waited for while it is captured"

    def close(self) -> None:
        assert not self.closed
        self.closed = True

    def capture_graph(self, call: Callable[[], None]) -> Callable[[], None]:
        self.capturing = True
        call()
        self.capturing = False
        self.captures += 1
        return call


@dataclass(frozen=True)
class Played:
    """One version of the package: its memory on the device, and a record of the calls."""

    version: str
    memory: dict[int, np.ndarray]
    done: dict[str, Any] = field(default_factory=lambda: {"flags": [], "built": [], "levels": []})

    @property
    def typed(self) -> bool:
        """Whether networks are strongly typed and precision flags are gone."""
        return not self.version.startswith("8.")


class Config:
    """Configuration of a builder."""

    builder_optimization_level = 0
    profiling_verbosity = None
    cache = b""

    def __init__(self, played: Played) -> None:
        self.played = played

    def set_memory_pool_limit(self, pool: str, size: int) -> None:
        assert pool == "WORKSPACE"

    def set_flag(self, flag: str) -> None:
        is_precision = flag != "SPARSE_WEIGHTS"
        assert not (is_precision and self.played.typed), "no precision flags on a strongly typed network"
        self.played.done["flags"].append(flag)

    def create_timing_cache(self, content: bytes) -> Any:
        return SimpleNamespace(serialize=lambda: content + b"+")

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> None:
        self.cache = cache

    def get_timing_cache(self) -> Any:
        return self.cache

    def add_optimization_profile(self, profile: Any) -> None:
        self.profile = profile


class Profile:
    """The shapes that an engine is built for."""

    def set_shape(self, name: str, least: tuple[int, ...], best: tuple[int, ...], most: tuple[int, ...]) -> None:
        assert least == best == most
        self.name, self.shape = name, best


class Builder:
    """Makes the plan of a network: its path as bytes."""

    def __init__(self, played: Played, logger: Any) -> None:
        self.played = played

    def create_network(self, flags: int) -> Any:
        assert flags == 1 << (1 if self.played.typed else 0)
        return SimpleNamespace()

    def create_builder_config(self) -> Config:
        return Config(self.played)

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Any, config: Config) -> bytes | None:
        self.played.done["built"].append(network.path)
        self.played.done["levels"].append(config.builder_optimization_level)
        return None if "unbuildable" in network.path else network.path.encode()


class OnnxParser:
    """Accepts every file that onnxruntime accepts."""

    num_errors = 1

    def __init__(self, network: Any, logger: Any) -> None:
        self.network = network

    def parse_from_file(self, path: str) -> bool:
        self.network.path = path
        try:
            ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        except Exception:
            return False
        return True

    def get_error(self, index: int) -> Any:
        return SimpleNamespace(desc=lambda: "no parser\nfor it")


class Context:
    """Runs an engine on the memory at its addresses."""

    profiler: Any = None

    def __init__(self, played: Played, session: ort.InferenceSession) -> None:
        self.played, self.session = played, session
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        entry = next(t for t in (*self.session.get_inputs(), *self.session.get_outputs()) if t.name == name)
        return (self.shape[0], *entry.shape[1:])

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == PlayedCuda.stream
        memory = self.played.memory
        image, result = self.session.get_inputs()[0].name, self.session.get_outputs()[0].name
        found = self.session.run([result], {image: memory[self.addresses[image]]})[0]
        memory[self.addresses[result]] = found
        if self.profiler is not None:
            self.profiler.report_layer_time("stem", 0.02)
            self.profiler.report_layer_time("head", 0.01)
        return True


class Engine:
    """The file itself, in onnxruntime, with a free first dimension."""

    def __init__(self, played: Played, path: str) -> None:
        self.played = played
        self.session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.entries = [*self.session.get_inputs(), *self.session.get_outputs()]
        self.num_io_tensors = len(self.entries)

    def get_tensor_name(self, index: int) -> str:
        return str(self.entries[index].name)

    def get_tensor_mode(self, name: str) -> str:
        return "INPUT" if name == self.entries[0].name else "OUTPUT"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, *next(e for e in self.entries if e.name == name).shape[1:])

    def get_tensor_dtype(self, name: str) -> str:
        return "UINT8" if next(e for e in self.entries if e.name == name).type == "tensor(uint8)" else "FLOAT"

    def create_execution_context(self) -> Context:
        return Context(self.played, self.session)

    def create_engine_inspector(self) -> Any:
        key = "Datatype" if self.played.version.startswith("11") else "Format/Datatype"
        told = {"Layers": [{"Name": "stem", "Outputs": [{"Name": "x", key: "Half"}]}, "head"]}
        return SimpleNamespace(get_engine_information=lambda form: json.dumps(told))


class Runtime:
    """Makes the engine of a plan."""

    def __init__(self, played: Played, logger: Any) -> None:
        self.played = played

    def deserialize_cuda_engine(self, plan: bytes) -> Engine:
        return Engine(self.played, plan.decode())


class Logger:
    """Discards all messages."""

    ERROR = 1

    def __init__(self, level: int) -> None: ...


class IProfiler:
    """Base class of profilers."""

    def __init__(self) -> None: ...


def package(version: str, memory: dict[int, np.ndarray]) -> Any:
    """The names of one version; `.done` records the calls."""
    played = Played(version, memory)
    return SimpleNamespace(
        __version__=version, done=played.done,
        Builder=partial(Builder, played), OnnxParser=OnnxParser, Runtime=partial(Runtime, played), IProfiler=IProfiler,
        Logger=Logger, MemoryPoolType=SimpleNamespace(WORKSPACE="WORKSPACE"),
        NetworkDefinitionCreationFlag=SimpleNamespace(
            **({"STRONGLY_TYPED": 1} if played.typed else {"EXPLICIT_BATCH": 0})
        ),
        BuilderFlag=SimpleNamespace(
            SPARSE_WEIGHTS="SPARSE_WEIGHTS", **({} if played.typed else {"FP16": "FP16", "INT8": "INT8"})
        ),
        ProfilingVerbosity=SimpleNamespace(DETAILED="DETAILED"), LayerInformationFormat=SimpleNamespace(JSON="JSON"),
        TensorIOMode=SimpleNamespace(INPUT="INPUT", OUTPUT="OUTPUT"),
        nptype=lambda dtype: np.uint8 if dtype == "UINT8" else np.float32,
    )  # fmt: skip
