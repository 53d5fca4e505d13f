"""Where and in which form a net is trained, chosen by a short measurement.

On a CPU, memory format and precision change the speed of training by two to five times, and not the same way for every
net: depthwise convolutions lose by bfloat16 what dense ones gain. So every net is asked.
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
from nas.training.cpu_kernels import fast_depthwise_backward, strided_1x1_workaround

MemoryFormat = Literal["contiguous", "channels_last"]
Precision = Literal["fp32", "bf16"]

_MEMORY_FORMATS: tuple[MemoryFormat, ...] = ("contiguous", "channels_last")
_PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
_PROBE_SECONDS = 1.0
_PROBE_BATCH_SIZE = 32
_WARMUP_BATCH_SIZE = 4
_MAX_PROBE_STEP_SECONDS = 0.4
MIN_BF16_SPEEDUP = 1.1
"""How much faster bfloat16 must be before it is worth its rounding."""
MIN_THREADS_SPEEDUP = 1.15
"""How much faster all threads must be than one before they are used."""

MAX_THREADS_SLOWDOWN = 3.0
"""How much slower all threads must be in their first step for no second one to be tried."""


@dataclass(frozen=True, kw_only=True)
class ExecutionFormat:
    """The form of the computation. It decides speed, and results only by rounding.

    Attributes:
        device: "cpu" or "cuda".
        memory_format: order of activations and weights in memory.
        precision: "bf16" trains by autocast; weights and sums stay fp32.
        threads: CPU threads.
    """

    device: str = "cpu"
    memory_format: MemoryFormat = "contiguous"
    precision: Precision = "fp32"
    threads: int = 1

    @property
    def torch_memory_format(self) -> torch.memory_format:
        """The memory format as torch names it."""
        return torch.channels_last if self.memory_format == "channels_last" else torch.contiguous_format

    def autocast(self) -> torch.autocast:
        """The context in which the forward pass runs."""
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.precision == "bf16")


@contextmanager
def on_device(net: nn.Module, execution: ExecutionFormat) -> Iterator[None]:
    """While it lasts, the net is in this form; afterwards contiguous, on the CPU, in eval mode, without gradients."""
    net.to(device=execution.device, memory_format=execution.torch_memory_format)  # type: ignore[call-overload]
    risky = execution.device == "cpu" and execution.memory_format == "channels_last"
    quick = execution == replace(execution, device="cpu", memory_format="channels_last", precision="bf16")
    try:
        with (
            fast_depthwise_backward(net) if quick else nullcontext(),
            strided_1x1_workaround(net) if risky else nullcontext(),
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
    """The fastest form for training `net`, which is left as it is.

    On the CPU all four forms take training steps in turn on one thread for about a second, and the shortest processor
    time counts, which a load from elsewhere does not stretch. The winner then runs on one thread and on all by turns,
    by the clock on the wall: on a busy machine threads wait for each other, and one alone can be many times faster.
    Choices close to each other may fall differently from call to call: keep the answer where runs must repeat. On CUDA
    no measurement is needed.

    Args:
        net: from images [N, C, H, W] to logits.
        input_shape: (C, H, W).
        batch_size: images per training step; the probe's own batch is smaller, the order of the forms is the same.
        device: "auto" (CUDA where present), "cpu" or "cuda".
        threads: CPU threads at most; None takes torch's present number.

    Raises:
        ConfigError: the device is unknown or absent.
    """
    threads = threads or torch.get_num_threads()
    if _resolve_device(device) == "cuda":
        return ExecutionFormat(device="cuda", memory_format="channels_last", precision="bf16", threads=threads)
    forms = [ExecutionFormat(memory_format=f, precision=p) for f, p in itertools.product(_MEMORY_FORMATS, _PRECISIONS)]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        seconds = _min_step_seconds(net, forms, input_shape)
        handicap = {form: MIN_BF16_SPEEDUP if form.precision == "bf16" else 1.0 for form in forms}
        chosen = min(forms, key=lambda form: seconds[form] * handicap[form])
        if threads == 1:
            return chosen
        one, many = _mean_wall_seconds(net, chosen, (1, threads), (batch_size, *input_shape), seconds[chosen])
        return replace(chosen, threads=threads) if many * MIN_THREADS_SPEEDUP < one else chosen
    finally:
        torch.set_num_threads(before)


def _resolve_device(device: str) -> str:
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device must be auto, cpu or cuda, but got {device!r}")
    present = torch.cuda.is_available()
    if device == "cuda" and not present:
        raise ConfigError("device cuda must be present, but torch finds none; use --device cpu")
    return "cuda" if present and device != "cpu" else "cpu"


def _min_step_seconds(
    net: nn.Module, formats: list[ExecutionFormat], input_shape: tuple[int, int, int]
) -> dict[ExecutionFormat, float]:
    """The shortest training step of each form, in seconds; at least one timed step each.

    The batch is cut down for slow nets, so that even theirs takes a few seconds at most.
    """
    best = dict.fromkeys(formats, float("inf"))
    with ExitStack() as stack:
        twins = {form: copy.deepcopy(net).train() for form in formats}
        for form, twin in twins.items():
            stack.enter_context(on_device(twin, form))
        warmups = [_timed_step(twin, (_WARMUP_BATCH_SIZE, *input_shape), form) for form, twin in twins.items()]
        batch = max(
            _WARMUP_BATCH_SIZE, min(_PROBE_BATCH_SIZE, int(_WARMUP_BATCH_SIZE * _MAX_PROBE_STEP_SECONDS / min(warmups)))
        )
        end = time.perf_counter() + _PROBE_SECONDS
        while math.inf in best.values() or time.perf_counter() < end:
            for form, twin in twins.items():
                best[form] = min(best[form], _timed_step(twin, (batch, *input_shape), form))
    return best


def _mean_wall_seconds(
    net: nn.Module,
    execution: ExecutionFormat,
    thread_counts: tuple[int, int],
    batch_shape: tuple[int, ...],
    step_seconds: float,
) -> tuple[float, float]:
    """Mean seconds of a training step on the wall with each number of threads, taken by turns.

    The batch of `batch_shape` is cut down where `step_seconds`, of a probe's step, says that it would take long. Where many
    threads are hopeless in the first turn, which warms up, its figures stand: on a busy machine each turn can take ten
    seconds.
    """
    batch = max(_PROBE_BATCH_SIZE, min(batch_shape[0], int(_PROBE_BATCH_SIZE * _MAX_PROBE_STEP_SECONDS / step_seconds)))
    twin = copy.deepcopy(net).train()
    turns: list[list[float]] = []
    with on_device(twin, execution):
        end = time.perf_counter() + _PROBE_SECONDS / 2
        while len(turns) < 2 or time.perf_counter() < end:
            seconds = []
            for count in thread_counts:
                torch.set_num_threads(count)
                seconds.append(_timed_step(twin, (batch, *batch_shape[1:]), execution, clock=time.perf_counter))
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
    """Seconds that a step costs: with one thread its processor time, which a busy machine does not stretch."""
    return time.thread_time if threads == 1 else time.perf_counter
