"""CPU of this machine, with ONNX Runtime on one thread. It is always measured, so it has no latency model.

Rates are those of one core by its instruction set at a nominal 3 GHz. They are descriptive: no computation uses them.
"""

import os
import platform
from pathlib import Path

from hw_profiles._base import HardwareProfile

NOMINAL_GHZ = 3.0

_ISA = {  # word: (flop per cycle of FP32, operations per cycle of INT8, block); two fused multiply-add units
    "avx512_vnni": (64, 256, 16),
    "avx512f": (64, 64, 16),
    "avx2": (32, 32, 8),
    "neon": (16, 64, 4),
    "unknown": (8, 8, 8),
}


def _flags() -> set[str]:
    """CPU features as listed by Linux; empty on other systems."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return set()
    lines = info.read_text().splitlines()
    return {word for line in lines if line.startswith(("flags", "Features")) for word in line.split()[2:]}


def _model_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _memory_gb() -> float:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return 0.0


def _profile() -> HardwareProfile:
    is_arm = platform.machine().lower() in {"aarch64", "arm64"}
    flags = _flags() | ({"neon"} if is_arm else set())
    isa = next((word for word in _ISA if word in flags), "unknown")
    fp32, int8, block = _ISA[isa]
    return HardwareProfile(
        name="cpu",
        title=f"this machine's CPU ({_model_name()}), one thread",
        runtime="onnxruntime",
        precisions=(8, 32),
        channel_multiple=8,
        activation_signed=is_arm,
        peak_gops={8: int8 * NOMINAL_GHZ, 32: fp32 * NOMINAL_GHZ},
        bandwidth_gb_s=10.0,
        memory_gb=_memory_gb(),
        local=True,
        facts={"isa": isa, "block": block, "cores": os.cpu_count() or 1, "nominal_ghz": NOMINAL_GHZ},
        sources={
            "precisions": "ONNX Runtime has no FP16 convolutions on x86; INT8 pays only with VNNI or dot product",
            "channel_multiple": "ONNX Runtime's NCHWc block is 8 on AVX2 and 16 on AVX-512; 8 keeps the grid fine, and "
            "widths between two blocks of 16 cost as much as the wider one",
            "activation_signed": "ONNX Runtime quantisation guide: U8S8 on x86, S8S8 on ARM64",
            "peak_gops": "instruction set (two fused multiply-add units) times nominal_ghz; assumed, not used",
            "bandwidth_gb_s": "a core's usual share of DDR4 and DDR5; assumed, not used",
            "memory_gb": "sysconf(SC_PHYS_PAGES)",
            "isa": "/proc/cpuinfo",
            "block": "ONNX Runtime, mlas: channels of a block in its NCHWc convolutions",
            "cores": "os.cpu_count()",
            "nominal_ghz": "assumed, the same on every machine so that a profile does not change from run to run",
        },
    )


PROFILES: dict[str, HardwareProfile] = {"cpu": _profile()}
