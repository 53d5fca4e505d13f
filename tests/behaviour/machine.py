"""Fingerprint of what trained bytes depend on besides the code: the processor's kernels and the libraries' versions.

Floating-point sums differ in their last bits between instruction sets and between versions of a library. So figures
that come out of a training, or out of a fit by the sampler, are equal only between equal fingerprints.
"""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

LIBRARIES = ("numpy", "onnx", "onnxruntime", "optuna", "torch")
CPU_LINES = ("vendor_id", "cpu family", "model", "stepping")
VECTORS = ("avx", "amx", "fma", "sse4", "asimd", "sve")
"""Beginnings of the processor flags that decide which kernels are taken."""


def fingerprint() -> dict[str, Any]:
    """Libraries, instruction set and processor of this machine, JSON-ready; no name of the machine."""
    return {
        "libraries": {name: version(name) for name in LIBRARIES},
        "python": ".".join(platform.python_version_tuple()[:2]),
        "architecture": platform.machine(),
        "torch_kernels": torch.backends.cpu.get_cpu_capability(),
        "processor": _processor(Path("/proc/cpuinfo")),
    }


def differences(recorded: dict[str, Any]) -> str:
    """The parts of a recorded fingerprint that are different here, in words; empty where it is the same."""
    here = fingerprint()
    changed = [name for name in here if here[name] != recorded.get(name)]
    return ", ".join(f"{name} is {here[name]}, but was {recorded.get(name)}" for name in changed)


def _processor(file: Path) -> dict[str, str]:
    """Facts of the first processor that Linux lists; empty elsewhere."""
    if not file.exists():
        return {}
    first = file.read_text().split("\n\n")[0]
    lines = dict(line.split(":", 1) for line in first.splitlines() if ":" in line)
    facts = {name.strip(): value.strip() for name, value in lines.items()}
    flags = facts.get("flags", facts.get("Features", "")).split()
    vectors = " ".join(sorted(flag for flag in flags if flag.startswith(VECTORS)))
    return {name: facts[name] for name in CPU_LINES if name in facts} | {"vectors": vectors}
