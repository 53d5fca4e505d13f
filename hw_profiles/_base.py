"""Hardware profile contract: facts about one device, each with its source, without imports from nas or torch."""

from dataclasses import dataclass, field

INT8_BITS, FLOAT16_BITS, FLOAT32_BITS = 8, 16, 32
"""Bit-widths of the numbers that a device computes in: integers, half and single precision."""


@dataclass(frozen=True, kw_only=True)
class LatencyModel:
    """Constants of the roofline model: latency is `fixed_us` plus floor, arithmetic and traffic of each fused kernel.

    Attributes:
        fixed_us: microseconds of one inference outside all kernels (launch of the graph, copies).
        floor_us: microseconds of the smallest kernel.
        efficiency: share of the peak arithmetic rate that convolutions of this size reach, 0..1, by kernel kind
            ("conv", "pointwise", "depthwise", "grouped", "linear"); "memory" is the share of the bandwidth that traffic
            reaches. A missing kind counts as 1.
        relative_error: half-width of the 95 % interval of a prediction, as a share of it (0.5 means +-50 %).
        source: origin of the constants, and how they were validated.
    """

    fixed_us: float
    floor_us: float
    efficiency: dict[str, float]
    relative_error: float
    source: str


@dataclass(frozen=True, kw_only=True)
class PowerMode:
    """One mode of a board's power manager. Both clocks and the multiprocessors are known together, or not at all.

    Attributes:
        name: the board's name for it.
        gpu_mhz: maximum clock of the GPU; None where it is not published.
        multiprocessors: streaming multiprocessors in use.
        memory_mhz: maximum clock of the memory, to which its bandwidth is proportional.
        fitted_as: name of the profile of the same board that was fitted in this mode; empty where there is none.
    """

    name: str
    gpu_mhz: float | None = None
    multiprocessors: int | None = None
    memory_mhz: float | None = None
    fitted_as: str = ""


@dataclass(frozen=True, kw_only=True)
class HardwareProfile:
    """One device that networks run on.

    Attributes:
        name: its word on the command line, after `--target`.
        title: readable name.
        runtime: name of the runtime that executes files on it (`nas.runtimes`).
        precisions: bit-widths with hardware support, an ascending subset of (8, 16, 32).
        channel_multiple: number of which all channel counts are multiples.
        activation_signed: whether INT8 activations are signed with zero point 0 (TensorRT, ARM), or unsigned (x86).
        peak_gops: peak arithmetic rate in 1e9 operations per second (a multiply-accumulate is two), by bit-width.
        bandwidth_gb_s: memory bandwidth, 1e9 bytes per second.
        memory_gb: memory, 1e9 bytes.
        local: whether the device is this machine, which can always be measured.
        latency: constants for prediction; None where no published latencies exist to fit them to.
        power_modes: modes of the board, most power first; the figures above are those of the mode in the fact
            `power_mode`. Empty where there are none, or none is known.
        facts: further facts, name to value.
        sources: name of a fact, or "*" for all others, to its source.
    """

    name: str
    title: str
    runtime: str
    precisions: tuple[int, ...]
    channel_multiple: int
    activation_signed: bool
    peak_gops: dict[int, float]
    bandwidth_gb_s: float
    memory_gb: float
    local: bool = False
    latency: LatencyModel | None = None
    power_modes: tuple[PowerMode, ...] = ()
    facts: dict[str, str | int | float] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
