"""Raspberry Pi 4 and 5 with ONNX Runtime on one thread.

No table of whole networks in this runtime is published for them.

- Raspberry Pi 4: the constants are fitted to the latencies of HW-NAS-Bench (arXiv 2103.10584) in TensorFlow Lite, for
  15,284 cells of NAS-Bench-201 and 211 operators of FBNet (`benchmarks/device_tables.py` refits and prints all
  figures). Properties of the core transfer: its shares of arithmetic rate and bandwidth, and the floor of a kernel. The
  runtime does not: newer versions of ONNX Runtime have blocked ARM convolutions, which alone change a latency by half.
- Raspberry Pi 5: the constants are estimates.

The intervals of both are accordingly wide.
"""

from dataclasses import dataclass

from hw_profiles._base import HardwareProfile, LatencyModel

_ESTIMATED = (
    "estimated from the instruction set and from rates reported for these cores; not fitted and not checked on a board"
)
_FITTED = (
    "roofline fitted to HW-NAS-Bench's latencies of 15,284 NAS-Bench-201 cells and 211 FBNet operators in TensorFlow "
    "Lite; on cells left out: median error 8%, rank correlation 0.96, 95% within 96%; on operators left out: 18%, "
    "0.98; on all cells, from the operators alone: 62%, 0.96; transferred to ONNX Runtime, where none was compared"
)


@dataclass(frozen=True, kw_only=True)
class _Board:
    """One board. `ops_per_cycle` is per core, by bit-width; a multiply-accumulate is two."""

    name: str
    title: str
    core: str
    ghz: float
    ops_per_cycle: dict[int, int]
    efficiency: dict[str, float]
    relative_error: float
    source: str
    memory_gb: float
    bandwidth_gb_s: float
    floor_us: float
    rates_source: str


_BOARDS = (
    _Board(
        name="raspberry-pi-4", title="Raspberry Pi 4 Model B", core="Cortex-A72", ghz=1.5, ops_per_cycle={8: 16, 32: 8},
        efficiency={
            "conv": 0.366, "pointwise": 0.9, "depthwise": 0.124, "grouped": 0.358, "linear": 0.9, "memory": 0.686,
        },
        relative_error=0.95, source=_FITTED, memory_gb=4, bandwidth_gb_s=4.0, floor_us=8.7,
        rates_source="Arm Cortex-A72 software optimisation guide: one 128-bit multiply-accumulate per cycle; no dot "
        "product, so INT8 gains little",
    ),
    _Board(
        name="raspberry-pi-5", title="Raspberry Pi 5", core="Cortex-A76", ghz=2.4, ops_per_cycle={8: 64, 32: 16},
        efficiency={"conv": 0.6, "pointwise": 0.6, "depthwise": 0.15, "grouped": 0.3, "linear": 0.3, "memory": 0.7},
        relative_error=0.95, source=_ESTIMATED, memory_gb=8, bandwidth_gb_s=8.0, floor_us=3,
        rates_source="Arm Cortex-A76 software optimisation guide: two 128-bit multiply-accumulates per cycle, also as "
        "INT8 dot products",
    ),
)  # fmt: skip


def _profile(board: _Board) -> HardwareProfile:
    return HardwareProfile(
        name=board.name,
        title=f"{board.title} (one {board.core} at {board.ghz:g} GHz)",
        runtime="onnxruntime",
        precisions=tuple(sorted(board.ops_per_cycle)),
        channel_multiple=8,
        activation_signed=True,
        peak_gops={bits: n * board.ghz for bits, n in board.ops_per_cycle.items()},
        bandwidth_gb_s=board.bandwidth_gb_s,
        memory_gb=board.memory_gb,
        latency=LatencyModel(
            fixed_us=15,
            floor_us=board.floor_us,
            efficiency=board.efficiency,
            relative_error=board.relative_error,
            source=board.source,
        ),
        facts={"core": board.core, "ghz": board.ghz, "cores": 4, "block": 4},
        sources={
            "*": f"Raspberry Pi Ltd, product brief of the {board.title}",
            "precisions": "ONNX Runtime on ARM64: FP32 and INT8 kernels; half precision needs instructions of ARMv8.2 "
            "that its convolutions do not use",
            "channel_multiple": "two of the blocks, so that INT8 kernels are full as well",
            "block": "128-bit NEON registers hold four FP32 values",
            "activation_signed": "ONNX Runtime quantisation guide: S8S8 on ARM64",
            "peak_gops": board.rates_source,
            "bandwidth_gb_s": "what one core reaches in published STREAM runs; assumed",
        },
    )


PROFILES: dict[str, HardwareProfile] = {board.name: _profile(board) for board in _BOARDS}
