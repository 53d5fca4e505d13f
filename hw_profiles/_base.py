"""What a hardware profile is: facts about one device, each with its source. No code of the engine, no torch."""

from dataclasses import dataclass, field

INT8_BITS, FLOAT16_BITS, FLOAT32_BITS = 8, 16, 32
"""Bit-widths of the numbers that a device computes in: integers, half and single precision."""


@dataclass(frozen=True, kw_only=True)
class LatencyModel:
    """Constants of the roofline: a net takes `fixed_us` plus, for each fused kernel, floor, arithmetic and traffic.

    Attributes:
        fixed_us: microseconds of one inference that no kernel accounts for (launch of the graph, copies).
        floor_us: microseconds of one kernel, however small.
        efficiency: share of the peak arithmetic rate that convolutions of this size reach, 0..1, by kernel kind
            ("conv", "pointwise", "depthwise", "grouped", "linear"); "memory" is the share of the bandwidth that traffic
            reaches. A kind that is missing counts as 1.
        relative_error: half-width of the 95 % interval of a prediction, as a share of it (0.5 means +-50 %).
        source: where the constants come from, and how they were checked.
    """

    fixed_us: float
    floor_us: float
    efficiency: dict[str, float]
    relative_error: float
    source: str


@dataclass(frozen=True, kw_only=True)
class PowerMode:
    """One mode of a board's power manager. The three clocks and counts are known together, or not at all.

    Attributes:
        name: as the board names it.
        gpu_mhz: largest clock of the GPU; None where nothing published states it.
        multiprocessors: streaming multiprocessors that are switched on.
        memory_mhz: largest clock of the memory, to which its bandwidth is in proportion.
        fitted_as: the profile of the same board that was fitted to figures of this mode; empty where there is none.
    """

    name: str
    gpu_mhz: float | None = None
    multiprocessors: int | None = None
    memory_mhz: float | None = None
    fitted_as: str = ""


@dataclass(frozen=True, kw_only=True)
class HardwareProfile:
    """One device that a net may have to run on.

    Attributes:
        name: the word after `--target`.
        title: what the device is, for people.
        runtime: word of the runtime that runs files on it (`nas.runtimes`).
        precisions: bit-widths that the device really accelerates or stores, ascending subset of (8, 16, 32).
        channel_multiple: channel counts stay on multiples of this.
        activation_signed: whether INT8 activations are signed with zero point 0 (TensorRT, ARM), or unsigned (x86).
        peak_gops: peak arithmetic rate in 1e9 operations per second (a multiply-accumulate is two), by bit-width.
        bandwidth_gb_s: memory bandwidth, 1e9 bytes per second.
        memory_gb: memory.
        local: whether the device is the machine this runs on, so that it can always be measured.
        latency: constants for prediction, None where nothing is published to fit them to.
        power_modes: the modes that the board can run in, most power first; the figures above hold for the one that
            the fact `power_mode` names. Empty where there are none, or none is known.
        facts: further facts, name to value.
        sources: fact name (or "*") to where it was read.
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
