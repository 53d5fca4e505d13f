"""How busy this machine is besides us, in words: load and stolen time, as Linux tells them."""

import os
from dataclasses import dataclass
from pathlib import Path

PROC_STAT = Path("/proc/stat")


@dataclass(frozen=True, kw_only=True)
class CpuTicks:
    """The counters of all cores at one moment, in ticks: all time, and what a hypervisor gave to others."""

    total: int = 0
    steal: int = 0


def snapshot(proc_stat: Path = PROC_STAT) -> CpuTicks:
    """The counters now; zeros where the system has none. https://docs.kernel.org/filesystems/proc.html, section 1.7."""
    try:
        fields = [int(word) for word in proc_stat.read_text().split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return CpuTicks()
    return CpuTicks(total=sum(fields), steal=fields[7]) if len(fields) == 8 else CpuTicks()


def describe_since(since: CpuTicks, proc_stat: Path = PROC_STAT) -> str:
    """Load of the last minute and the share of stolen time since a moment, for example "load 2.1 on 2 cores"."""
    load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores" if hasattr(os, "getloadavg") else "load unknown"
    now = snapshot(proc_stat)
    stolen = (now.steal - since.steal) / (now.total - since.total) if now.total > since.total else 0.0
    return load + (f", {stolen:.0%} of the time stolen" if stolen >= 0.005 else "")
