"""Raspberry Pi 4 and 5, by ONNX Runtime on one thread.

No consistent published table of whole nets exists for them in this runtime, so the constants are estimates: the peak is
the instruction set's, the shares are those that convolutions of this size reach on other cores of the kind. Newer ONNX
Runtimes have blocked ARM convolutions that older ones lack, which alone moves a latency by half. The interval says so.
"""

from dataclasses import dataclass

from hw_profiles._base import HardwareProfile, LatencyModel

_ESTIMATED = (
    "estimated from the instruction set and from rates reported for these cores; not fitted and not checked on a board"
)


@dataclass(frozen=True, kw_only=True)
class _Board:
    """One row. `operations` are per core and cycle by bit-width: a multiply-accumulate is two."""

    name: str
    title: str
    core: str
    ghz: float
    operations: dict[int, int]
    reached: float
    gb: float
    gb_s: float
    floor_us: float
    rates: str


_BOARDS = (
    _Board(
        name="raspberry-pi-4", title="Raspberry Pi 4 Model B", core="Cortex-A72", ghz=1.5, operations={8: 16, 32: 8},
        reached=0.6, gb=4, gb_s=4.0, floor_us=6,
        rates="Arm Cortex-A72 software optimisation guide: one 128-bit multiply-accumulate per cycle; no dot "
        "product, so INT8 gains little",
    ),
    _Board(
        name="raspberry-pi-5", title="Raspberry Pi 5", core="Cortex-A76", ghz=2.4, operations={8: 64, 32: 16},
        reached=0.6, gb=8, gb_s=8.0, floor_us=3,
        rates="Arm Cortex-A76 software optimisation guide: two 128-bit multiply-accumulates per cycle, also as INT8 "
        "dot products",
    ),
)  # fmt: skip


def _profile(board: _Board) -> HardwareProfile:
    return HardwareProfile(
        name=board.name,
        title=f"{board.title} (one {board.core} at {board.ghz:g} GHz)",
        runtime="onnxruntime",
        precisions=tuple(sorted(board.operations)),
        channel_multiple=8,
        activation_signed=True,
        peak_gops={bits: n * board.ghz for bits, n in board.operations.items()},
        bandwidth_gb_s=board.gb_s,
        memory_gb=board.gb,
        latency=LatencyModel(
            fixed_us=15,
            floor_us=board.floor_us,
            efficiency={
                "conv": board.reached,
                "pointwise": board.reached,
                "depthwise": 0.15,
                "grouped": 0.3,
                "linear": 0.3,
                "memory": 0.7,
            },
            relative_error=0.9,
            source=_ESTIMATED,
        ),
        facts={"core": board.core, "ghz": board.ghz, "cores": 4, "block": 4},
        sources={
            "*": f"Raspberry Pi Ltd, product brief of the {board.title}",
            "precisions": "ONNX Runtime on ARM64: FP32 and INT8 kernels; half precision needs instructions of ARMv8.2 "
            "that its convolutions do not use",
            "channel_multiple": "two of the blocks, so that INT8 kernels are full as well",
            "block": "128-bit NEON registers hold four FP32 values",
            "activation_signed": "ONNX Runtime quantisation guide: S8S8 on ARM64",
            "peak_gops": board.rates,
            "bandwidth_gb_s": "what one core reaches in published STREAM runs; assumed",
        },
    )


PROFILES: dict[str, HardwareProfile] = {board.name: _profile(board) for board in _BOARDS}
