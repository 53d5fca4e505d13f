"""Execution format of a training: device, memory format, precision and threads, chosen by a short measurement.

On a CPU, memory format and precision change the speed of training by a factor of two to five, and differently for every
network: bfloat16 makes dense convolutions faster and depthwise ones slower. So each network is timed.
"""

import copy
import itertools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from nas.errors import ConfigError
from nas.training.cpu_kernels import fast_depthwise_backward, fast_small_map_backward, strided_1x1_workaround

MemoryFormat = Literal["contiguous", "channels_last"]
Precision = Literal["fp32", "bf16"]

_MEMORY_FORMATS: tuple[MemoryFormat, ...] = ("contiguous", "channels_last")
_PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
_PROBE_SECONDS = 1.0
"""Duration of the timing of all formats."""
_PROBE_BATCH_SIZE = 32
_WARMUP_BATCH_SIZE = 4
_MAX_PROBE_STEP_SECONDS = 0.4
"""Longest step of a probe; batches of slower networks are cut down to it."""
MIN_BF16_SPEEDUP = 1.1
"""Speed-up at which bfloat16 is worth its rounding errors."""
MIN_THREADS_SPEEDUP = 1.15
"""Speed-up at which all threads are used instead of one."""
MAX_THREADS_SLOWDOWN = 3.0
"""Slowdown of all threads against one, in the first turn, at which no second turn is timed."""


@dataclass(frozen=True, kw_only=True)
class ExecutionFormat:
    """Format of the computation. It decides the speed; it changes results by rounding alone.

    Attributes:
        device: "cpu" or "cuda".
        memory_format: order of activations and weights in memory.
        precision: "bf16" computes by autocast; weights and the optimiser stay in FP32.
        threads: CPU threads.
    """

    device: str = "cpu"
    memory_format: MemoryFormat = "contiguous"
    precision: Precision = "fp32"
    threads: int = 1

    @property
    def torch_memory_format(self) -> torch.memory_format:
        """The memory format as a torch constant."""
        return torch.channels_last if self.memory_format == "channels_last" else torch.contiguous_format

    def autocast(self) -> torch.autocast:
        """Context for the forward pass."""
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.precision == "bf16")


@contextmanager
def on_device(net: nn.Module, execution: ExecutionFormat) -> Iterator[None]:
    """Within the block a network has this format; then it is contiguous, on the CPU, in eval mode, no gradients."""
    net.to(device=execution.device, memory_format=execution.torch_memory_format)  # type: ignore[call-overload]
    may_crash = execution.device == "cpu" and execution.memory_format == "channels_last"
    is_bf16_on_cpu = execution == replace(execution, device="cpu", memory_format="channels_last", precision="bf16")
    try:
        with (
            fast_depthwise_backward(net) if is_bf16_on_cpu else nullcontext(),
            fast_small_map_backward(net) if is_bf16_on_cpu else nullcontext(),
            strided_1x1_workaround(net) if may_crash else nullcontext(),
        ):
            yield
    finally:
        net.eval().to(device="cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        net.zero_grad(set_to_none=True)


def choose_execution(
    net: nn.Module,
    *,
    input_shape: tuple[int, int, int],
    batch_size: int,
    device: str = "auto",
    threads: int | None = None,
) -> ExecutionFormat:
    """The fastest format for training `net`, which is left as it is.

    1. On the CPU, all four combinations of memory format and precision take training steps by turns on one thread, for
       about a second. The shortest processor time counts, because load from other processes does not lengthen it.
    2. The fastest one then takes steps on one thread and on all threads by turns. Here the wall clock counts: on a busy
       machine threads wait for each other, and one alone can be many times faster.

    On CUDA nothing is measured. Formats of nearly equal speed may be chosen differently from call to call: save the
    result where runs must repeat.

    Args:
        net: from images [N, C, H, W] to logits [N, classes].
        input_shape: (C, H, W).
        batch_size: images per training step; probes use smaller batches, in which the order of the formats is the same.
        device: "auto" (CUDA where present), "cpu" or "cuda".
        threads: largest number of CPU threads; None takes the present setting of torch.

    Raises:
        ConfigError: the device is unknown or absent.
    """
    threads = threads or torch.get_num_threads()
    if _resolve_device(device) == "cuda":
        return ExecutionFormat(device="cuda", memory_format="channels_last", precision="bf16", threads=threads)
    formats = [
        ExecutionFormat(memory_format=f, precision=p) for f, p in itertools.product(_MEMORY_FORMATS, _PRECISIONS)
    ]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        seconds = _min_step_seconds(net, formats, input_shape)
        handicap = {f: MIN_BF16_SPEEDUP if f.precision == "bf16" else 1.0 for f in formats}
        chosen = min(formats, key=lambda f: seconds[f] * handicap[f])
        if threads == 1:
            return chosen
        one, many = _mean_wall_seconds(net, chosen, (1, threads), (batch_size, *input_shape), seconds[chosen])
        return replace(chosen, threads=threads) if many * MIN_THREADS_SPEEDUP < one else chosen
    finally:
        torch.set_num_threads(before)


def _resolve_device(device: str) -> str:
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device must be auto, cpu or cuda, but got {device!r}")
    is_present = torch.cuda.is_available()
    if device == "cuda" and not is_present:
        raise ConfigError("device cuda must be present, but torch finds none; use --device cpu")
    return "cuda" if is_present and device != "cpu" else "cpu"


def _min_step_seconds(
    net: nn.Module, formats: list[ExecutionFormat], input_shape: tuple[int, int, int]
) -> dict[ExecutionFormat, float]:
    """Shortest training step of each format, in seconds of its clock; at least one timed step each.

    Batches of slow networks are smaller, so that the whole takes a few seconds at most.
    """
    best = dict.fromkeys(formats, float("inf"))
    with ExitStack() as stack:
        copies = {f: copy.deepcopy(net).train() for f in formats}
        for f, scratch in copies.items():
            stack.enter_context(on_device(scratch, f))
        warmups = [_timed_step(scratch, (_WARMUP_BATCH_SIZE, *input_shape), f) for f, scratch in copies.items()]
        batch = max(
            _WARMUP_BATCH_SIZE, min(_PROBE_BATCH_SIZE, int(_WARMUP_BATCH_SIZE * _MAX_PROBE_STEP_SECONDS / min(warmups)))
        )
        end = time.perf_counter() + _PROBE_SECONDS
        while math.inf in best.values() or time.perf_counter() < end:
            for f, scratch in copies.items():
                best[f] = min(best[f], _timed_step(scratch, (batch, *input_shape), f))
    return best


def _mean_wall_seconds(
    net: nn.Module,
    execution: ExecutionFormat,
    thread_counts: tuple[int, int],
    batch_shape: tuple[int, ...],
    step_seconds: float,
) -> tuple[float, float]:
    """Mean wall-clock seconds of a training step with each of two numbers of threads, taken by turns.

    The first turn warms up and is left out, unless many threads are hopeless in it: then its figures are the result,
    because on a busy machine each turn can take ten seconds.

    Args:
        net: left as it is.
        execution: format; its threads do not count.
        thread_counts: one thread, and many.
        batch_shape: [N, C, H, W] of a full batch; N is cut down where a step would take long.
        step_seconds: of a step with a batch of `_PROBE_BATCH_SIZE`.
    """
    batch = max(_PROBE_BATCH_SIZE, min(batch_shape[0], int(_PROBE_BATCH_SIZE * _MAX_PROBE_STEP_SECONDS / step_seconds)))
    scratch = copy.deepcopy(net).train()
    turns: list[list[float]] = []
    with on_device(scratch, execution):
        end = time.perf_counter() + _PROBE_SECONDS / 2
        while len(turns) < 2 or time.perf_counter() < end:
            seconds = []
            for count in thread_counts:
                torch.set_num_threads(count)
                seconds.append(_timed_step(scratch, (batch, *batch_shape[1:]), execution, clock=time.perf_counter))
            turns.append(seconds)
            if turns[0][1] > MAX_THREADS_SLOWDOWN * turns[0][0]:
                return turns[0][0], turns[0][1]
    one, many = (sum(times) / (len(turns) - 1) for times in zip(*turns[1:], strict=True))
    return one, many


def _timed_step(
    net: nn.Module,
    batch_shape: tuple[int, ...],
    execution: ExecutionFormat,
    *,
    clock: Callable[[], float] | None = None,
) -> float:
    images = torch.full(batch_shape, 127.0).contiguous(memory_format=execution.torch_memory_format)
    clock = clock or step_clock(execution.threads)
    begin = clock()
    with execution.autocast():
        logits = net(images)
    loss = functional.cross_entropy(logits.float(), torch.zeros(len(images), dtype=torch.long))
    loss.backward()  # type: ignore[no-untyped-call]
    net.zero_grad(set_to_none=True)
    return clock() - begin


def step_clock(threads: int) -> Callable[[], float]:
    """Clock in seconds: the processor time of one thread, which other load does not lengthen; else the wall clock."""
    return time.thread_time if threads == 1 else time.perf_counter
