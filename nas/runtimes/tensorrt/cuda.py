"""CUDA calls for timing: memory, a stream, events and a graph, by pycuda, or by cuda-python where that is missing.

pycuda: https://documen.tician.de/pycuda/. cuda-python: https://nvidia.github.io/cuda-python/. Graphs are captured by
the driver's own library through ctypes, because pycuda has none. Never run on a GPU: the calls of pycuda were tested on
one built against CUDA's headers, with a stand-in for the driver (benchmarks/pycuda_build.py).
"""

import ctypes
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.errors import MeasureError

Array = npt.NDArray[Any]

INSTALL_HINT = "for pycuda: pip install pycuda (it needs nvcc); without nvcc: pip install cuda-python"


class CudaDevice(ABC):
    """One stream on the first device.

    Life: made by `open_cuda_device`, used from one thread, closed. Addresses and graphs are valid until then.

    Attributes:
        name: name of the GPU.
        stream: handle of the stream.
    """

    name: str
    stream: int

    @abstractmethod
    def allocate(self, size: int) -> int:
        """Allocate `size` bytes on the device, and return their address."""

    @abstractmethod
    def upload(self, address: int, array: Array) -> None:
        """Copy a contiguous array to the device, and wait for the copy."""

    @abstractmethod
    def download(self, array: Array, address: int) -> None:
        """Copy from the device into a contiguous array, and wait for the copy."""

    @abstractmethod
    def time_ms(self, call: Callable[[], None]) -> float:
        """Milliseconds of the work that `call` enqueues, between two events on the stream; waits for its end."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until the stream is empty."""

    @abstractmethod
    def close(self) -> None:
        """Free all memory of this device."""

    def capture_graph(self, call: Callable[[], None]) -> Callable[[], None]:
        """Capture the work that `call` enqueues as one CUDA graph, which the returned call launches.

        A graph removes the host's cost of each launch, which exceeds the kernels of a small net.

        Raises:
            MeasureError: the driver refuses the capture.
        """
        driver = ctypes.CDLL("libcuda.so.1")
        stream, graph, ready = ctypes.c_void_p(self.stream), ctypes.c_void_p(), ctypes.c_void_p()
        _check_status(driver.cuStreamBeginCapture_v2(stream, 2), "begin")  # 2: relaxed mode, other threads are free
        try:
            call()
        finally:  # a stream that is left in capture mode refuses all later work
            status = driver.cuStreamEndCapture(stream, ctypes.byref(graph))
        _check_status(status, "end")
        _check_status(
            driver.cuGraphInstantiateWithFlags(ctypes.byref(ready), graph, ctypes.c_ulonglong(0)), "instantiate"
        )
        return lambda: _check_status(driver.cuGraphLaunch(ready, stream), "launch")


def open_cuda_device() -> CudaDevice:
    """Open the first device with the first package that is installed.

    Raises:
        MeasureError: neither package is installed, or there is no device.
    """
    failures = []
    packages: tuple[tuple[str, type[CudaDevice]], ...] = (("PyCuda", _PyCuda), ("CudaPython", _CudaPython))
    for package, device in packages:
        try:
            return device()
        except ImportError as error:
            failures.append(str(error))
        except Exception as error:  # the two packages share no exception
            raise MeasureError(f"a CUDA device must be present, but {package} says: {error}") from None
    raise MeasureError(f"pycuda or cuda-python must be installed ({'; '.join(failures)}); {INSTALL_HINT}")


class _PyCuda(CudaDevice):
    def __init__(self) -> None:
        import pycuda.driver as driver  # type: ignore[import-not-found,import-untyped,unused-ignore]

        driver.init()
        self._driver: Any = driver
        self._context: Any = driver.Device(0).retain_primary_context()
        self._context.push()
        self.name = str(driver.Device(0).name())
        self._stream: Any = driver.Stream()
        self.stream = int(self._stream.handle)
        self._start, self._end = driver.Event(), driver.Event()
        self._memory: list[Any] = []

    def allocate(self, size: int) -> int:
        self._memory.append(self._driver.mem_alloc(size))
        return int(self._memory[-1])

    def upload(self, address: int, array: Array) -> None:
        self._driver.memcpy_htod_async(address, array, self._stream)
        self._stream.synchronize()

    def download(self, array: Array, address: int) -> None:
        self._driver.memcpy_dtoh_async(array, address, self._stream)
        self._stream.synchronize()

    def time_ms(self, call: Callable[[], None]) -> float:
        self._start.record(self._stream)
        call()
        self._end.record(self._stream)
        self._end.synchronize()
        return float(self._start.time_till(self._end))

    def synchronize(self) -> None:
        self._stream.synchronize()

    def close(self) -> None:
        for memory in self._memory:
            memory.free()
        self._memory.clear()
        self._context.pop()


class _CudaPython(CudaDevice):
    def __init__(self) -> None:
        try:
            from cuda.bindings import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
                runtime,
            )
        except ImportError:  # cuda-python before 12.8
            from cuda import (  # type: ignore[import-not-found,import-untyped,no-redef,attr-defined,unused-ignore]
                cudart as runtime,
            )
        self._runtime: Any = runtime
        self.name = self._call(runtime.cudaGetDeviceProperties, 0).name.decode()
        self._stream: Any = self._call(runtime.cudaStreamCreate)
        self.stream = int(self._stream)
        self._start, self._end = self._call(runtime.cudaEventCreate), self._call(runtime.cudaEventCreate)
        self._memory: list[int] = []

    def allocate(self, size: int) -> int:
        self._memory.append(int(self._call(self._runtime.cudaMalloc, size)))
        return self._memory[-1]

    def upload(self, address: int, array: Array) -> None:
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call(self._runtime.cudaMemcpyAsync, address, array.ctypes.data, array.nbytes, kind, self._stream)
        self.synchronize()

    def download(self, array: Array, address: int) -> None:
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call(self._runtime.cudaMemcpyAsync, array.ctypes.data, address, array.nbytes, kind, self._stream)
        self.synchronize()

    def time_ms(self, call: Callable[[], None]) -> float:
        self._call(self._runtime.cudaEventRecord, self._start, self._stream)
        call()
        self._call(self._runtime.cudaEventRecord, self._end, self._stream)
        self._call(self._runtime.cudaEventSynchronize, self._end)
        return float(self._call(self._runtime.cudaEventElapsedTime, self._start, self._end))

    def synchronize(self) -> None:
        self._call(self._runtime.cudaStreamSynchronize, self._stream)

    def close(self) -> None:
        for address in self._memory:
            self._call(self._runtime.cudaFree, address)
        self._memory.clear()

    @staticmethod
    def _call(function: Callable[..., Any], *arguments: Any) -> Any:
        status, *results = function(*arguments)
        if int(status):
            raise MeasureError(f"{function.__name__} must succeed, but gave {status}")
        return results[0] if results else None


def nbytes(shape: tuple[int, ...], dtype: npt.DTypeLike) -> int:
    """Bytes of an array of this shape and type."""
    return int(np.prod(shape)) * np.dtype(dtype).itemsize


def _check_status(status: int, what: str) -> None:
    if status:
        raise MeasureError(f"CUDA must {what} the graph, but gave error {status}")
