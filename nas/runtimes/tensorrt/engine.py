"""Engine of one ONNX file, built in this process and run for one image by TensorRT's Python package.

https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/python-api-docs.html. Networks are strongly typed
where TensorRT supports it (10 and later): the engine has the types of the file. In 8.6 the types of the file are
allowed. An engine never touches the disk, and none is loaded from there, because that would run foreign code.

Never run for this project, which had no GPU. `benchmarks/tensorrt_names.py` looks up each name used here in the
published bindings of a version.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.errors import MeasureError
from nas.runtimes.base import Floats, LayerTiming, Session
from nas.runtimes.tensorrt.cuda import CudaDevice, nbytes
from nas.runtimes.tensorrt.trtexec import ModelFormat, read_model_format

WORKSPACE_BYTES = 1 << 28
"""Scratch memory of the builder, the same as trtexec gets over ssh."""
OPTIMIZATION_LEVEL = 3
"""TensorRT's default, set so that a later default does not change figures."""
LAYER_RUNS = 20
"""Runs over which the profiler's time of each layer is averaged."""


class TimingCache:
    """TensorRT's timing cache of kernels, serialised, for all engines of this process."""

    def __init__(self) -> None:
        self.content = b""


def build_engine(trt: Any, model: Path, timing_cache: TimingCache, *, batch: int = 1) -> Any:
    """Build an engine of a file for one image, or for a batch.

    Args:
        trt: the package tensorrt.
        model: the ONNX file.
        timing_cache: read and extended.
        batch: images of one run.

    Raises:
        MeasureError: TensorRT cannot parse the file, or cannot build or load its engine.
    """
    form = read_model_format(model, batch=batch)
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(model)):
        reasons = "; ".join(str(parser.get_error(i).desc()) for i in range(parser.num_errors))
        raise MeasureError(f"{model.name!r} must be a file that TensorRT parses: {' '.join(reasons.split())[:300]}")
    config = _builder_config(trt, builder, form)
    if form.dynamic_shape:
        profile, (name, _, shape) = builder.create_optimization_profile(), form.dynamic_shape.partition(":")
        dims = tuple(int(size) for size in shape.split("x"))
        profile.set_shape(name, dims, dims, dims)
        config.add_optimization_profile(profile)
    config.set_timing_cache(config.create_timing_cache(timing_cache.content), False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise MeasureError(f"{model.name!r} must be a file that TensorRT {trt.__version__} builds an engine of")
    timing_cache.content = bytes(config.get_timing_cache().serialize())
    runtime = trt.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise MeasureError(f"{model.name!r}: TensorRT {trt.__version__} built an engine that it cannot load")
    return engine


class EngineSession(Session):
    """One engine with its buffers on the device, for one image or one batch at a time.

    Attributes:
        device_name: name of the GPU.
        input_shape: shape of the input, [N, C, H, W].
    """

    def __init__(self, trt: Any, engine: Any, device: CudaDevice, *, batch: int = 1) -> None:
        self._trt, self._engine, self._device = trt, engine, device
        self.device_name = device.name
        self._context: Any = engine.create_execution_context()
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        modes = {name: engine.get_tensor_mode(name) for name in names}
        self._input = next(name for name in names if modes[name] == trt.TensorIOMode.INPUT)
        self._output = next(name for name in names if modes[name] == trt.TensorIOMode.OUTPUT)
        self.input_shape = (batch, *tuple(engine.get_tensor_shape(self._input))[1:])
        self._context.set_input_shape(self._input, self.input_shape)
        self._addresses = {}
        for name in names:  # every output needs an address, also those that nobody reads
            shape = tuple(self._context.get_tensor_shape(name))
            self._addresses[name] = device.allocate(nbytes(shape, trt.nptype(engine.get_tensor_dtype(name))))
            self._context.set_tensor_address(name, self._addresses[name])

    def predict(self, images: npt.NDArray[np.uint8]) -> Floats:
        """Class probabilities [N, K] of images [N, C, H, W], which run one after the other.

        Raises:
            MeasureError: the session was closed, or the images do not fit the input.
        """
        shape = tuple(self._open_context().get_tensor_shape(self._output))
        result = np.empty((len(images), *shape[1:]), np.float32)
        for image, row in zip(images, result, strict=True):
            self._upload(image[None])
            self.enqueue()
            output = np.empty(shape, self._trt.nptype(self._engine.get_tensor_dtype(self._output)))
            self._device.download(output, self._addresses[self._output])
            row[...] = output[0]
        return result

    def bound_run(self, images: npt.NDArray[np.uint8]) -> Callable[[], None]:
        """A call that runs the engine once on this image and waits for it.

        Raises:
            MeasureError: the session was closed, or `images` is not one image that fits the input.
        """
        self._upload(images)

        def run() -> None:
            self.enqueue()
            self._device.synchronize()

        return run

    def time_runs_ms(self, images: npt.NDArray[np.uint8], *, runs: int, warm_up_runs: int) -> npt.NDArray[np.float64]:
        """GPU milliseconds of each run [runs], replayed as a CUDA graph, without copies.

        Args:
            images: one image [1, C, H, W].
            runs: number of timed runs.
            warm_up_runs: replays before them.

        Raises:
            MeasureError: the session was closed, the image does not fit, or the driver refuses the graph.
        """
        self._upload(images)
        for _ in range(3):
            self.enqueue()  # an engine allocates at its first runs, which must not be captured
        self._device.synchronize()
        replay = self._device.capture_graph(self.enqueue)
        for _ in range(warm_up_runs):
            replay()
        return np.array([self._device.time_ms(replay) for _ in range(runs)])

    def layer_times(self) -> tuple[LayerTiming, ...]:
        """Mean milliseconds of each layer, in order and without a graph; its name contains the type it computes in."""
        sums: dict[str, float] = {}

        class Profiler(self._trt.IProfiler):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                super().__init__()

            def report_layer_time(self, name: str, ms: float) -> None:
                sums[name] = sums.get(name, 0.0) + ms

        context = self._open_context()
        context.profiler = Profiler()
        for _ in range(LAYER_RUNS):
            self.enqueue()
            self._device.synchronize()
        types = _layer_types(self._trt, self._engine)
        return tuple(
            LayerTiming(name=f"{n} [{types.get(n, 'type unknown')}]", ms=s / LAYER_RUNS) for n, s in sums.items()
        )

    def enqueue(self) -> None:
        """Enqueue one run on the stream.

        Raises:
            MeasureError: the session was closed, or TensorRT refuses the run.
        """
        if not self._open_context().execute_async_v3(self._device.stream):
            raise MeasureError("TensorRT must accept a run, but refused it")

    def close(self) -> None:
        """Release engine and buffers."""
        self._context = self._engine = None
        self._device.close()

    def _open_context(self) -> Any:
        if self._context is None:
            raise MeasureError("a session must be open, but this one was closed; load the file again")
        return self._context

    def _upload(self, images: npt.NDArray[np.uint8]) -> None:
        self._open_context()
        if images.shape != self.input_shape:
            raise MeasureError(f"images must fit the input {list(self.input_shape)}, but got {list(images.shape)}")
        dtype = self._trt.nptype(self._engine.get_tensor_dtype(self._input))
        self._device.upload(self._addresses[self._input], np.ascontiguousarray(images, dtype=dtype))


def _network_flags(trt: Any) -> int:
    flags = trt.NetworkDefinitionCreationFlag
    return 1 << int(flags.STRONGLY_TYPED if hasattr(flags, "STRONGLY_TYPED") else flags.EXPLICIT_BATCH)


def _builder_config(trt: Any, builder: Any, model_format: ModelFormat) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    config.builder_optimization_level = OPTIMIZATION_LEVEL
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if not hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
        for flag in [*(["FP16"] if model_format.has_float16 else []), *(["INT8"] if model_format.has_qdq else [])]:
            config.set_flag(getattr(trt.BuilderFlag, flag))
    if model_format.has_2_4_weights:
        config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS)
    return config


def _layer_types(trt: Any, engine: Any) -> dict[str, str]:
    """Type of the first output of each layer by its name, from the engine inspector."""
    inspector = engine.create_engine_inspector()
    information = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    types = {}
    for layer in information.get("Layers", []):
        outputs = layer.get("Outputs") if isinstance(layer, dict) else None  # a layer without details is a mere name
        if outputs:
            # The key changed between versions.
            words = outputs[0].get("Format/Datatype") or outputs[0].get("Datatype") or outputs[0].get("DataType")
            types[str(layer.get("Name"))] = str(words)
    return types
