"""Stand-in for pycuda.driver on the memory of `stand_in_tensorrt`, to check the order of the calls.

It has the names that pycuda 2022.1 to 2026.1 have (https://documen.tician.de/pycuda/driver.html). Misuse raises: a copy
of another size than was allocated, a call outside the context, reading a stream that was never waited for.
"""

import sys
from types import ModuleType
from typing import Any

import numpy as np

from tests.runtimes.stand_in_tensorrt import PlayedCuda


class Context:
    """The primary context of a device."""

    def __init__(self, calls: list[str]) -> None:
        self.calls = calls

    def push(self) -> None:
        self.calls.append("push")

    def pop(self) -> None:
        self.calls.append("pop")


def install(monkeypatch: Any, memory: dict[int, np.ndarray]) -> list[str]:
    """Put the package into sys.modules; returns the list of the calls that matter."""
    calls: list[str] = []
    sizes: dict[int, int] = {}

    class Stream:
        handle = PlayedCuda.stream

        def synchronize(self) -> None:
            calls.append("synchronize")

    class Event:
        def record(self, stream: Stream) -> None:
            calls.append("record")

        def synchronize(self) -> None: ...

        def time_till(self, other: "Event") -> float:
            return 0.1

    class Device:
        def __init__(self, ordinal: int) -> None:
            assert calls == ["init"]

        def retain_primary_context(self) -> Context:
            return Context(calls)

    def mem_alloc(size: int) -> int:
        assert calls.count("push") == 1
        address = 1000 + len(sizes)
        sizes[address] = size
        return address

    def copy_in(address: int, array: np.ndarray, stream: Stream) -> None:
        assert array.flags.c_contiguous
        assert array.nbytes <= sizes[address]
        memory[address] = array.copy()

    def copy_out(array: np.ndarray, address: int, stream: Stream) -> None:
        assert array.shape == memory[address].shape
        array[...] = memory[address]

    driver = ModuleType("pycuda.driver")
    driver.__dict__.update(
        init=lambda: calls.append("init"), Device=Device, Stream=Stream, Event=Event, mem_alloc=mem_alloc,
        memcpy_htod_async=copy_in, memcpy_dtoh_async=copy_out,
    )  # fmt: skip
    package = ModuleType("pycuda")
    package.__dict__["driver"] = driver
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    return calls
